"""The progress display of a job."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import sys
from collections.abc import Callable
from typing import TextIO

import pytest

from trace_guard import Guard, step

HIDDEN, SHOWN = "\x1b[?25l", "\x1b[?25h"
"""What hides a terminal's cursor, and shows it again."""


class Stderr:
    """A terminal or a pipe in place of standard error."""

    def __init__(self, ours: int, theirs: int) -> None:
        self._ours = ours
        self.stream: TextIO = os.fdopen(theirs, "w")

    def shown(self) -> str:
        """The output so far. Reading it closes the terminal."""
        self.stream.close()
        parts = []
        with contextlib.suppress(OSError):  # reading a terminal raises once its other end is closed
            while part := os.read(self._ours, 65536):
                parts.append(part)
        os.close(self._ours)
        return b"".join(parts).decode()


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets the environment variables of a terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")


def run(guard: Guard, stderr: Stderr, monkeypatch: pytest.MonkeyPatch, *, progress: bool = True) -> str:
    """Returns the output of a job with three items."""
    monkeypatch.setattr(sys, "stderr", stderr.stream)
    with guard.job("nightly", progress=progress) as job:
        for result in job.process([3, 0, 1], lambda item: 6 // item, workers=1):
            print(result.value)
    return stderr.shown()


@pytest.mark.parametrize("kind", ["rich", "plain"])
def test_a_terminal_shows_the_progress(
    make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """A terminal shows the done and failed items, the cursor is restored, and the job's own output goes to its usual
    place."""
    if kind == "plain":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    shown = run(make_guard(), Stderr(*pty.openpty()), monkeypatch)
    assert capsys.readouterr().out.split() == ["2", "None", "6"]
    if kind == "plain":
        assert shown.rstrip().endswith("nightly: 2 done, 1 failed of 3")
        assert shown.endswith("\r\n")
        assert HIDDEN not in shown
    else:
        assert "3/3" in shown
        assert "2 done, 1 failed" in shown
        assert shown.rindex(SHOWN) > shown.rindex("2 done, 1 failed") > shown.index(HIDDEN)


def test_a_pipe_gets_nothing(
    make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no progress in a pipe, on a dumb terminal, or with ``progress=False``."""
    guard = make_guard()
    assert run(guard, Stderr(*os.pipe()), monkeypatch) == ""
    assert run(guard, Stderr(*pty.openpty()), monkeypatch, progress=False) == ""
    monkeypatch.setenv("TERM", "dumb")
    assert run(guard, Stderr(*pty.openpty()), monkeypatch) == ""
    assert capsys.readouterr().out.split() == ["2", "None", "6"] * 3


@pytest.mark.parametrize("kind", ["rich", "plain"])
def test_the_total_counts_every_step(
    make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """Steps beside and within the items count in the total too, so that a job ends at 7 of 7, never beyond."""
    if kind == "plain":
        monkeypatch.setitem(sys.modules, "rich.console", None)
    stderr = Stderr(*pty.openpty())
    monkeypatch.setattr(sys, "stderr", stderr.stream)

    def ask(item: int) -> int:
        with step("retrieve"):
            return item

    with make_guard().job("nightly") as job:
        with step("load"):
            items = [1, 2, 3]
        job.process(items, ask, workers=1).run()
    shown = stderr.shown()
    if kind == "plain":
        assert shown.rstrip().endswith("nightly: 7 done of 7")
    else:
        assert re.findall(r"\d+/\d+", shown)[-1] == "7/7"
    assert all(int(done) <= int(total) for done, total in re.findall(r"(\d+)(?:/| done of )(\d+)", shown))


def test_an_unknown_number_of_items_has_no_total(
    make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Items of a generator, whose number nobody knows, are counted without a total."""
    monkeypatch.setitem(sys.modules, "rich.console", None)
    stderr = Stderr(*pty.openpty())
    monkeypatch.setattr(sys, "stderr", stderr.stream)
    with make_guard().job("nightly") as job:
        with step("load"):
            pass
        job.process((item for item in range(3)), str, workers=1).run()
    assert stderr.shown().rstrip().endswith("nightly: 4 done")
