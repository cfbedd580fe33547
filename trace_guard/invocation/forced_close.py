"""The end of an invocation whose code still runs: its time is up, or a signal ends the process."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..contain import contain
from ..deadline import Deadline
from ..journal.format import Flag
from ..outcome import ClosedBy, Outcome
from ..rows import Row, closing_row
from ..runtime.state import PROCESS

if TYPE_CHECKING:
    from .invocation import Invocation

__all__ = ["DRAIN_SECONDS", "EARLY", "LAST_DRAIN_SECONDS", "LAST_MARGIN_SECONDS", "EarlyEnd"]

EARLY = (Outcome.TIMED_OUT, Outcome.TERMINATED)
# Moving the SDK's queue to the journal takes a fraction of a millisecond; longer only if something hangs in it.
DRAIN_SECONDS = 1.0
# When the watchdog has fired there is a reserve of a few tenths of a second for all that is left to do.
LAST_DRAIN_SECONDS = 0.05
LAST_MARGIN_SECONDS = 0.02


class EarlyEnd:
    """Closes and delivers what is open. Only its first end does anything, and none does after the code's own.

    If the code ends in time after all, its own end wins: see :mod:`trace_guard.invocation.closing`.
    """

    def __init__(self, invocation: Invocation) -> None:
        self._invocation = invocation

    def time_out(self) -> None:
        """Called on a thread of its own at deadline minus reserve."""
        reserve, deadline = self._invocation._reserve, self._invocation.deadline
        self._end(
            Outcome.TIMED_OUT, ClosedBy.WATCHDOG, "deadline",
            lambda lasted: f"TimedOut: still running {lasted:.2f} s after it began, "
                           f"{reserve:.2f} s before its deadline",
            deadline.minus(LAST_MARGIN_SECONDS),
        )

    def terminate(self, signal: str, deadline: Deadline) -> None:
        """A signal of this name ends the process: close what is open, and deliver up to the deadline."""
        late = self._invocation.deadline.minus(self._invocation._reserve).expired
        self._end(
            Outcome.TIMED_OUT if late else Outcome.TERMINATED, ClosedBy.GUARD, "signal",
            lambda lasted: f"{'TimedOut' if late else 'Terminated'}: {signal} came {lasted:.2f} s after it began",
            deadline,
        )

    def _end(
        self, outcome: Outcome, closed_by: ClosedBy, reason: str, error: Callable[[float], str], deadline: Deadline
    ) -> None:
        invocation = self._invocation
        with contain("close what is still running"):
            runtime, record = invocation.guard.runtime, invocation._record
            assert record is not None
            if self._is_over:
                return
            with contain("empty the SDK's queue"):
                PROCESS.sdk.drain(Deadline.after(max(LAST_DRAIN_SECONDS, min(deadline.remaining / 2, DRAIN_SECONDS))))
            # As one step with the outcome: whoever closes the invocation from here on finds all of it in the journal.
            with invocation._lock:
                if self._is_over:
                    return
                invocation.outcome = outcome
                closing = self._closing(outcome, closed_by, reason, error(time.monotonic() - invocation._began))
                journal, position = runtime.append(closing, Flag.FORCED)
            runtime.courier.deliver(journal, position, deadline, roots=[record.root_span_id])

    @property
    def _is_over(self) -> bool:
        return self._invocation._closed or self._invocation.outcome is not None

    def _closing(self, outcome: Outcome, closed_by: ClosedBy, reason: str, error: str) -> list[Row]:
        """The rows that close what is open, innermost first."""
        invocation, end = self._invocation, time.time()
        runtime, record = invocation.guard.runtime, invocation._record
        assert record is not None
        # What starts from here on, or was still in the queue, is late, and is closed as it arrives.
        children = runtime.spans.end_early(record.root)
        running = next((span.name for span in children), None)
        closing = runtime.close_spans(children, outcome, closed_by, reason, end)
        closing.append(closing_row(
            PROCESS.sdk.identity_of(invocation.span), end=end, outcome=outcome, closed_by=closed_by, reason=reason,
            error=error if running is None else f"{error}; in the span {running!r}",
            notes={"running": running} if running else None,
        ))
        return closing
