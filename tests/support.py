"""What tests of the mechanism share: programs that can be killed, settings for a server, rows, and waiting."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from planted_keys import PLANTED_KEY, holds_key

from trace_guard import Settings
from trace_guard.journal.directory import JOURNALS
from trace_guard.journal.format import Entry, Kind
from trace_guard.journal.reader import read_acked, read_entries
from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

__all__ = [
    "A_WHILE", "PROJECT_ID", "Program", "child_of", "delivered", "end_row", "environment", "is_alive", "journals",
    "normal", "pending_in", "rows_in", "settings_for", "start_row", "still_open", "traces_in", "until",
    "without_place",
]

REPOSITORY = Path(__file__).parent.parent
PROJECT_ID = "11111111-2222-3333-4444-555555555555"
A_WHILE = 20.0
"""Seconds after which a test that still waits has failed; far more than any of them needs."""


def until(condition: Callable[[], Any], seconds: float = A_WHILE, what: str = "the condition") -> Any:
    """Wait until the condition is true, and return what it said."""
    limit = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < limit, f"{what} did not come true in {seconds:g} s"
        time.sleep(0.002)
    return found


# Settings


def environment(server: BraintrustServer | None, directory: Path, **more: str) -> dict[str, str]:
    """The variables for a program whose rows go to a server."""
    variables = {
        "TRACE_GUARD_DIR": str(directory), "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "BRAINTRUST_API_KEY": PLANTED_KEY,
    }
    if server is not None:
        server.add_project("project", PROJECT_ID)
        variables.update(BRAINTRUST_API_URL=server.url, BRAINTRUST_APP_URL=server.url)
    return {name: value for name, value in {**variables, **more}.items() if value}


def settings_for(server: BraintrustServer | None, directory: Path, **keywords: Any) -> Settings:
    """The same as settings of this process."""
    return Settings.from_env(environment(server, directory), **keywords)


# Rows


def start_row(name: str, *, parent: str | None = None, root: str | None = None, start: float = 1000.0) -> Row:
    """The first row of a span whose ids come from its name."""
    return {
        "id": f"id-{name}", "span_id": name, "root_span_id": root or name,
        "span_parents": [parent] if parent else None, "project_id": PROJECT_ID, "log_id": "g",
        "created": "2026-01-01T00:00:00+00:00", "metrics": {"start": start},
        "span_attributes": {"name": name, "type": "task"}, "_is_merge": False,
    }


def end_row(name: str, *, parent: str | None = None, root: str | None = None, end: float = 1001.0, **more: Any) -> Row:
    """The last row of a span."""
    kept = ("id", "span_id", "root_span_id", "span_parents", "project_id", "log_id")
    start = start_row(name, parent=parent, root=root)
    return {**{key: start[key] for key in kept}, "_is_merge": True, "metrics": {"end": end}, **more}


def still_open(rows: Iterable[Mapping[str, Any]]) -> set[str]:
    """The ids of the spans that have a start among the rows and no end: found without the code under test."""
    started, ended = set(), set()
    for row in rows:
        metrics = row.get("metrics") or {}
        started |= {row["id"]} if "start" in metrics and row.get("span_id") else set()
        ended |= {row["id"]} if "end" in metrics else set()
    return started - ended


def without_place(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The guard's metadata of a row without the place where its span was started; None if there is none."""
    about = (row.get("metadata") or {}).get("trace_guard")
    return about and {name: value for name, value in about.items() if name != "opened_at"}


def normal(rows: Iterable[Row]) -> list[Row]:
    """The rows of a trace without what differs from run to run: ids become names, times are checked and left out."""
    rows = list(rows)
    names = {row["span_id"]: row["span_attributes"]["name"] for row in rows}
    roots = list(dict.fromkeys(row["root_span_id"] for row in rows))
    plain = []
    for row in rows:
        row = json.loads(json.dumps(row))
        start, end = (row["metrics"].pop(name) for name in ("start", "end"))
        assert start <= end, row
        assert row.pop("id")
        assert row.pop("created")
        row["span_attributes"].pop("exec_counter", None)
        row["span_parents"] = [names.get(parent, parent) for parent in row["span_parents"] or ()]
        plain.append({**row, "span_id": names[row["span_id"]], "root_span_id": roots.index(row["root_span_id"])})
    return sorted(plain, key=lambda row: (row["root_span_id"], row["span_id"]))


def traces_in(rows: Iterable[Row]) -> list[list[Row]]:
    """Stored rows by trace, in the order of their roots' starts."""
    traces: dict[str, list[Row]] = {}
    for row in rows:
        traces.setdefault(row["root_span_id"], []).append(row)
    return sorted(traces.values(), key=lambda trace: min(row["metrics"]["start"] for row in trace))


def delivered(server: BraintrustServer) -> bool:
    """True once the server holds spans, and none of them is open."""
    return bool(server.span_rows()) and not server.open_spans()


# Journals


def journals(directory: Path) -> list[Path]:
    """The journals in trace-guard's directory, oldest first."""
    return sorted((directory / JOURNALS).glob("[!.]*"))


def rows_in(entries: Iterable[Entry]) -> list[Row]:
    """The rows of the entries that are rows, parsed."""
    return [json.loads(entry.payload) for entry in entries if entry.kind == Kind.ROW]


def pending_in(directory: Path) -> list[Row]:
    """Every row in the directory that is not known to be delivered."""
    return [row for path in journals(directory) for row in rows_in(read_entries(path, read_acked(path)))]


# Processes


def child_of(pid: int) -> int:
    """The process id of a child of a process, as soon as it has one. Linux only."""
    def found() -> list[str]:
        with contextlib.suppress(OSError):  # a thread of it has just ended
            return " ".join((task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()).split()
        return []

    return int(until(found, what="the child")[0])


def is_alive(pid: int) -> bool:
    """False for a process that is gone, or that waits only for its parent to ask how it has ended. Linux only."""
    return _states(pid) - {"Z", "X"} != set()


# Programs


class Program:
    """A Python program of its own, told what to do over its standard input, until it is killed or ends.

    Its code may call ``say(*words)`` to be read with :meth:`hears`, and ``listen()`` to wait for :meth:`tell`.
    """

    _PRELUDE = """
        import faulthandler, os, signal, sys, time
        faulthandler.register(signal.SIGUSR1)
        def say(*words):
            os.write(1, (" ".join(map(str, words)) + "\\n").encode())
        def listen():
            return sys.stdin.readline().strip()
    """

    def __init__(
        self, code: str, env: Mapping[str, str], *, user: int | None = None, python: str | Path = sys.executable
    ) -> None:
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters"), str(REPOSITORY / "tests")])
        self._process = subprocess.Popen(
            [python, "-c", textwrap.dedent(self._PRELUDE) + textwrap.dedent(code)],
            env={**kept, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **env},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1,
            start_new_session=True, **({} if user is None else {"user": user, "group": user, "extra_groups": []}),
        )
        self.pid = self._process.pid
        self.errors: list[str] = []
        self._lines: queue.Queue[str | None] = queue.Queue()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read, self._read_errors)]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            with contextlib.suppress(OSError):  # it has ended with words unread
                stream.close()
        assert not holds_key(self.stderr.encode()), f"an API key is on stderr: {self.stderr}"

    @property
    def stderr(self) -> str:
        return "".join(self.errors)

    def hears(self, seconds: float = A_WHILE) -> str:
        """The next line that it says."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.signal(signal.SIGUSR1)  # have it say where it hangs
            time.sleep(0.5)
            raise AssertionError(f"nothing was said in {seconds:g} s; stderr: {self.stderr}") from None
        assert line is not None, f"it ended with {self.wait()} and said nothing; stderr: {self.stderr}"
        return line

    def expects(self, *words: object, seconds: float = A_WHILE) -> None:
        """Wait for the next line, which must be this one."""
        heard = self.hears(seconds)
        assert heard == " ".join(map(str, words)), f"heard {heard!r}; stderr: {self.stderr}"

    @property
    def ended(self) -> bool:
        return self._process.poll() is not None

    def said(self) -> list[str]:
        """The lines that it has said and that nobody has heard; to be called after its end."""
        lines = []
        while (line := self._lines.get(timeout=A_WHILE)) is not None:
            lines.append(line)
        return lines

    def tell(self, words: str = "") -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(words + "\n")
        self._process.stdin.flush()

    def signal(self, number: int) -> None:
        if self._process.poll() is None:
            os.killpg(self.pid, number)

    def stop(self) -> None:
        """SIGSTOP, and wait until every thread has stopped."""
        self.signal(signal.SIGSTOP)
        until(lambda: _states(self.pid) <= {"T", "t"}, what="the stop of every thread")

    def go_on(self) -> None:
        self.signal(signal.SIGCONT)

    def kill(self) -> int:
        """SIGKILL it and what it has started, if it still runs; wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return self.wait()

    def wait(self, seconds: float = A_WHILE) -> int:
        """Wait for its end; what it ended with."""
        status = self._process.wait(seconds)
        for reader in self._readers:
            reader.join(seconds)
        return status

    def ends_well(self, seconds: float = A_WHILE) -> None:
        """Wait for its end, which must be a good one, without a fault of ours."""
        assert (self.wait(seconds), "trace-guard: could not" in self.stderr) == (0, False), self.stderr

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))
        self._lines.put(None)

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        self.errors.extend(self._process.stderr)


def peak_memory() -> int:
    """Most memory that this process has had, in KB. That of ``getrusage`` may be its parent's. Linux only."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def _states(pid: int) -> set[str]:
    try:
        stats = [(task / "stat").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
    except (FileNotFoundError, ProcessLookupError):
        return set()
    return {stat.rpartition(")")[2].split()[0] for stat in stats}
