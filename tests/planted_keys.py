"""The API keys that tests use, and the search for them in all that a run of the tests leaves behind.

A key may be in the memory and the environment of a process, and in requests. It must not be in a file, a log line or on
stderr. So every key of the tests begins with MARK, and when the run is over, everything in pytest's temporary directory
and everything that was captured of each test is searched for it; one find fails the run. Programs and sandboxes, whose
stderr, log and files go when they are closed, are searched then.

Not searched is what a test writes itself to hand a key to a program: files whose name ends with GIVEN.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

__all__ = ["GIVEN", "MARK", "PLANTED_KEY", "PlantedKeys", "finds_in", "holds_key"]

# Windows has neither.
_FLAGS = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

MARK = "sk-planted-"
PLANTED_KEY = f"{MARK}never-to-be-left-behind"
GIVEN = ".given"
"""How the name of a file ends that a test has written a key to."""

_CHUNK = 1 << 20
_SHOWN = 20


def _spellings() -> list[bytes]:
    """The mark as text, and as it looks in base64 at each of the three places where it can begin there."""
    found = [MARK.encode(), MARK.encode("utf-16-le")]
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + MARK.encode())
        # Without the characters that depend on what stands before and behind.
        found.append(encoded[(0, 2, 3)[before] : len(encoded) - (4 if len(encoded) % 4 == 0 else 0)])
    return found


_SPELLINGS = _spellings()


def holds_key(data: bytes) -> bool:
    """True if there is a key of the tests in it."""
    return any(spelling in data for spelling in _SPELLINGS)


def finds_in(directory: Path) -> Iterator[Path]:
    """The regular files below a directory that have a key in them, or in their name."""
    for parent, _, names in os.walk(directory):
        for name in names:
            path = Path(parent, name)
            if not name.endswith(GIVEN) and (holds_key(os.fsencode(name)) or _file_holds_key(path)):
                yield path


def _file_holds_key(path: Path) -> bool:
    longest = max(map(len, _SPELLINGS))
    with contextlib.suppress(OSError):  # it is gone, or can't be read: nobody else can read it either
        descriptor = os.open(path, _FLAGS)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return False
            at, rest = 0, b""
            while (at := _next_data(descriptor, at)) >= 0:
                os.lseek(descriptor, at, os.SEEK_SET)
                chunk = os.read(descriptor, _CHUNK)
                if not chunk:
                    return False
                if holds_key(rest + chunk):
                    return True
                at, rest = at + len(chunk), chunk[-longest:]
        finally:
            os.close(descriptor)
    return False


def _next_data(descriptor: int, at: int) -> int:
    """Where data comes next, past the holes of a sparse file; -1 if there is none."""
    if not hasattr(os, "SEEK_DATA"):  # Windows
        return at
    try:
        return os.lseek(descriptor, at, os.SEEK_DATA)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return -1
        return at


class PlantedKeys:
    """The plugin that searches, in the process that has started the run: the workers of xdist report to it."""

    def __init__(self) -> None:
        self._places: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for title, text in report.sections:
            if holds_key(text.encode(errors="replace")):
                place = f"{report.nodeid}: {title}"
                if place not in self._places:
                    self._places.append(place)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        factory: pytest.TempPathFactory | None = getattr(session.config, "_tmp_path_factory", None)
        # Without a test that has asked for one there is no temporary directory.
        if factory is not None:
            self._places += map(str, finds_in(factory.getbasetemp()))
        if self._places:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._places:
            terminalreporter.section("an API key was left behind", red=True)
            for place in self._places[:_SHOWN]:
                terminalreporter.write_line(place)
            if len(self._places) > _SHOWN:
                terminalreporter.write_line(f"and in {len(self._places) - _SHOWN} more places")


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(PlantedKeys(), "planted-keys")
