"""Shows the progress of a job on a terminal: a bar if Rich is installed, else a line."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from typing import Any, Protocol, TextIO

from ..contain import contain
from ..redaction.outside_text import printable
from ..system.clock import monotonic

__all__ = ["Progress"]

_REDRAW_SECONDS = 0.1
_LONGEST_NAME = 200


class _Display(Protocol):
    def show(self, counts: Mapping[str, int], expected: int | None) -> None: ...
    def close(self) -> None: ...


class Progress:
    """A progress display. It appears with the first step, and only on a terminal. Any thread may call the methods.

    Args:
        name: of the job.
        stream: the terminal; standard error by default.
    """

    def __init__(self, name: str, stream: TextIO | None = None) -> None:
        self._name = printable(name, _LONGEST_NAME)
        self._stream = stream
        self._lock = threading.Lock()
        self._display: _Display | None = None
        self._drawn_at = 0.0
        self._is_closed = False

    def show(self, counts: Mapping[str, int], expected: int | None, *, is_last: bool = False) -> None:
        """Redraw the display, at most once per tenth of a second."""
        now = monotonic()
        if self._is_closed or (now - self._drawn_at < _REDRAW_SECONDS and not is_last):
            return
        with contain("show the progress of a job"):
            # Never wait: another thread is drawing already, or a signal handler interrupted the drawing.
            if not self._lock.acquire(blocking=False):
                return
            try:
                self._drawn_at = now
                if self._display is None:
                    self._display = self._begun()
                if self._display is None:
                    self._is_closed = True
                else:
                    self._display.show(counts, expected)
            finally:
                self._lock.release()

    def close(self) -> None:
        """Stop drawing and put the cursor after the display."""
        self._is_closed = True
        display, self._display = self._display, None
        if display is not None:
            with contain("restore the terminal"):
                display.close()

    def _begun(self) -> _Display | None:
        stream = self._stream or sys.stderr
        if stream is None or stream.closed or not stream.isatty() or os.environ.get("TERM") == "dumb":
            return None
        try:
            return _Bar(self._name, stream)
        except ImportError:
            return _Line(self._name, stream)


def _summary(counts: Mapping[str, int]) -> str:
    rest = [f"{counts[end]} {end}" for end in ("failed", "skipped") if counts.get(end)]
    return ", ".join([f"{counts['done']} done", *rest])


class _Line:
    """A single line that overwrites itself."""

    def __init__(self, name: str, stream: TextIO) -> None:
        self._name = name
        self._stream = stream
        self._width = 0

    def show(self, counts: Mapping[str, int], expected: int | None) -> None:
        line = f"{self._name}: {_summary(counts)}" + (f" of {max(expected, sum(counts.values()))}" if expected else "")
        self._stream.write("\r" + line.ljust(self._width))
        self._stream.flush()
        self._width = len(line)

    def close(self) -> None:
        self._stream.write("\n")
        self._stream.flush()


class _Bar:
    """A progress bar of Rich.

    Raises:
        ImportError: Rich is not installed.
    """

    def __init__(self, name: str, stream: TextIO) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._progress = Progress(
            TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[summary]}"), TimeElapsedColumn(), console=Console(file=stream),
            # Output to a file or a pipe must not be redirected.
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )
        self._task: Any = self._progress.add_task(name, total=None, summary="")
        self._progress.start()

    def show(self, counts: Mapping[str, int], expected: int | None) -> None:
        # An iterable may have announced too few items.
        completed = sum(counts.values())
        total = max(expected, completed) if expected else None
        self._progress.update(self._task, completed=completed, total=total, summary=_summary(counts))

    def close(self) -> None:
        self._progress.stop()
