"""Closes spans that no deadline bounds, after a time without activity."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from ..contain import contain
from ..deadline import Deadline
from ..journal.open_spans import OpenSpan, OpenSpans
from ..journal.row_facts import NewRow
from ..outcome import ClosedBy, Outcome
from ..rows import closing_row
from .forgotten import report
from .watchdog import Watchdog

__all__ = ["SpanTimeout"]

# The alarm comes at most so often, in seconds.
_LEAST_WAIT = 0.05
# So many spans are closed in one write, so that code which logs waits little for it.
_BATCH = 100


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
        key, self._key = self._key, None
        if key is not None:
            self._watchdog.disarm(key)

    def _arm(self, seconds: float) -> None:
        # Not waited for: whoever has the lock arms. A signal handler that writes rows may have interrupted it.
        if not self._lock.acquire(blocking=False):
            return
        try:
            if self._key is None:
                self._key = self._alarm(seconds)
        finally:
            self._lock.release()

    def _alarm(self, seconds: float) -> int:
        return self._watchdog.arm(Deadline.after(max(seconds, _LEAST_WAIT)), self._fire)

    def _fire(self) -> None:
        with self._lock:
            key, wait = self._key, self._seconds
        if key is None:
            return  # stopped meanwhile
        try:
            with contain("close spans without activity"):
                wait = self._close_idle()
        finally:
            self._watchdog.disarm(key)
            with self._lock:
                if self._key == key:
                    self._key = None if wait is None else self._alarm(wait)
            self.written()  # a span may have begun since the look

    def _close_idle(self) -> float | None:
        """Close what is due. Returns the seconds until the next look; None if no span is open."""
        assert self._seconds is not None
        due, wait = self._spans().idle(self._seconds)
        if not due:
            return wait
        self.drain()
        due, wait = self._spans().idle(self._seconds)
        for first in range(0, len(due), _BATCH):
            self._close(due[first:first + _BATCH])
        return self._spans().idle(self._seconds)[1] if due else wait

    def _close(self, due: Sequence[tuple[OpenSpan, float]]) -> None:
        # Made before the write, during which code that logs waits for the journal.
        made = [
            (span, end, NewRow.of(closing_row(
                span.identity, end=max(end, span.start), outcome=Outcome.TIMED_OUT, closed_by=ClosedBy.WATCHDOG,
                reason="no_activity", place=span.place,
            )))
            for span, end in due
        ]
        closed: list[OpenSpan] = []

        def rows() -> list[NewRow]:
            # Looked up again, as no row can come between this look and the write.
            still = [(span, row) for span, end, row in made if self._spans().is_idle_since(span, end)]
            closed[:] = [span for span, _ in still]
            return [row for _, row in still]

        self._write(rows)
        report(closed)
