"""Closes spans that no deadline bounds, after a time without activity."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..contain import contain
from ..deadline import Deadline
from ..journal.base import NewRow
from ..journal.open_spans import OpenSpan, OpenSpans
from ..outcome import ClosedBy, Outcome
from ..rows import closing_row
from .forgotten import report
from .watchdog import Watchdog

__all__ = ["SpanTimeout"]

# The alarm comes at most so often, in seconds.
_LEAST_WAIT = 0.05


class SpanTimeout:
    """The timeout of one pipeline. It is armed while spans are open.

    Args:
        seconds: without activity; None or 0 for no timeout.
        spans: returns the pipeline's open spans.
        write: appends the rows that a function makes, with no other row in between.
        watchdog: calls back.

    Attributes:
        drain: moves the rows in the SDK's queue to the journal.
    """

    def __init__(
        self, seconds: float | None, spans: Callable[[], OpenSpans],
        write: Callable[[Callable[[], Sequence[NewRow]]], Any], watchdog: Watchdog,
    ) -> None:
        self.drain: Callable[[], object] = lambda: None
        self._seconds: float | None = None
        self._spans = spans
        self._write = write
        self._watchdog = watchdog
        self.after_fork()
        self.use(seconds)

    def after_fork(self) -> None:
        """In a forked child: nothing is open or armed."""
        self._lock = threading.Lock()
        self._key: int | None = None
        if self._seconds is not None:
            self._spans().follow_activity()

    def use(self, seconds: float | None) -> None:
        """Close spans after this time. Of several timeouts the shortest counts."""
        if seconds:
            self._seconds = min(seconds, self._seconds or seconds)
            self._spans().follow_activity()
            self.written()

    def written(self) -> None:
        """Rows have been written: a span may be open."""
        if self._seconds is not None and self._key is None and self._spans().has_open:
            self._arm(self._seconds)

    def stop(self) -> None:
        """Disarm until rows are written."""
        with self._lock:
            key, self._key = self._key, None
        if key is not None:
            self._watchdog.disarm(key)

    def _arm(self, seconds: float) -> None:
        with self._lock:
            if self._key is None:
                self._key = self._watchdog.arm(Deadline.after(max(seconds, _LEAST_WAIT)), self._fire)

    def _fire(self) -> None:
        self.stop()
        wait = self._seconds
        try:
            with contain("close spans without activity"):
                wait = self._close_idle()
        finally:
            if wait is not None:
                self._arm(wait)

    def _close_idle(self) -> float | None:
        """Close what is due. Returns the seconds until the next look; None if no span is open."""
        assert self._seconds is not None
        due, wait = self._spans().idle(self._seconds)
        if not due:
            return wait
        self.drain()
        closed: list[OpenSpan] = []

        def make() -> list[NewRow]:
            # Looked up again: no row can come between this look and the write.
            assert self._seconds is not None
            due, _ = self._spans().idle(self._seconds)
            closed[:] = [span for span, _ in due]
            return [
                NewRow.of(closing_row(
                    span.identity, end=max(end, span.start), outcome=Outcome.TIMED_OUT, closed_by=ClosedBy.WATCHDOG,
                    reason="no_activity", place=span.place,
                ))
                for span, end in due
            ]

        self._write(make)
        report(closed)
        return self._spans().idle(self._seconds)[1]
