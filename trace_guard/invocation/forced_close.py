"""Closes an invocation whose code still runs because its deadline is near or a signal ends the process.

If the code then returns before the deadline, its own end wins: see :mod:`trace_guard.invocation.late_return`.
"""

from __future__ import annotations

from collections.abc import Callable

from ..contain import contain
from ..deadline import Deadline
from ..outcome import ClosedBy, Outcome
from ..rows import Row, closing_row
from ..runtime.state import PROCESS
from ..system.clock import monotonic
from .state import InvocationState

__all__ = ["DRAIN_SECONDS", "LAST_DRAIN_SECONDS", "ForcedClose"]

# Moving the SDK's queue to the journal takes a fraction of a millisecond unless something in the queue hangs.
DRAIN_SECONDS = 1.0
# After the watchdog fires, the reserve leaves a few tenths of a second for everything.
LAST_DRAIN_SECONDS = 0.05
_LAST_MARGIN_SECONDS = 0.02


class ForcedClose:
    """Closes the open spans and delivers. Only the first call has an effect, and none after the code's own end."""

    def __init__(self, state: InvocationState) -> None:
        self._state = state

    def time_out(self) -> None:
        """Close because of the deadline. The watchdog calls this on a separate thread at deadline minus reserve."""
        reserve, deadline = self._state.reserve, self._state.deadline
        self._close(
            Outcome.TIMED_OUT, ClosedBy.WATCHDOG, "deadline",
            lambda lasted: f"TimedOut: still running {lasted:.2f} s after it began, "
                           f"{reserve:.2f} s before its deadline",
            deadline.minus(_LAST_MARGIN_SECONDS),
        )

    def terminate(self, signal: str, deadline: Deadline) -> None:
        """Close because a signal ends the process, and deliver until the deadline."""
        late = self._state.deadline.minus(self._state.reserve).expired
        self._close(
            Outcome.TIMED_OUT if late else Outcome.TERMINATED, ClosedBy.GUARD, "signal",
            lambda lasted: f"{'TimedOut' if late else 'Terminated'}: {signal} came {lasted:.2f} s after it began",
            deadline,
        )

    def _close(
        self, outcome: Outcome, closed_by: ClosedBy, reason: str, error: Callable[[float], str], deadline: Deadline
    ) -> None:
        state = self._state
        with contain("force an invocation to close"):
            pipeline, record = state.pipeline, state.record
            assert record is not None
            if self._is_over:
                return
            with contain("close spans of other destinations"):
                if state.elsewhere:
                    about = {"outcome": outcome.value, "closed_by": closed_by.value, "reason": reason}
                    bound = deadline.capped(min(deadline.remaining / 2, DRAIN_SECONDS))
                    PROCESS.sdk.close_elsewhere(state.elsewhere, state.now, about, bound)
            with contain("empty the SDK's queue"):
                PROCESS.sdk.drain(Deadline.after(max(LAST_DRAIN_SECONDS, min(deadline.remaining / 2, DRAIN_SECONDS))))
            # Under one lock with the outcome, so a later close of the invocation finds all these rows in the journal.
            with state.lock:
                if self._is_over:
                    return
                state.outcome = outcome
                closing = self._closing_rows(outcome, closed_by, reason, error(monotonic() - state.began))
                journal, position = pipeline.append(closing)
            traces = pipeline.spans.traces_of(record.root) | {record.root_span_id}
            pipeline.courier.deliver(journal, position, deadline, roots=traces)

    @property
    def _is_over(self) -> bool:
        return self._state.is_closed or self._state.outcome is not None

    def _closing_rows(self, outcome: Outcome, closed_by: ClosedBy, reason: str, error: str) -> list[Row]:
        """The closing rows of the open spans, innermost first."""
        state, end = self._state, self._state.now
        pipeline, record = state.pipeline, state.record
        assert record is not None
        links = pipeline.spans.links_of(record.root)
        # From here on, a start row that arrives is late and is closed on arrival.
        children = pipeline.spans.force(record.root)
        running = next((span.name for span in children), None)
        closing = pipeline.close_spans(children, outcome, closed_by, reason, end)
        closing.append(closing_row(
            PROCESS.sdk.identity_of(state.span), end=end, outcome=outcome, closed_by=closed_by, reason=reason,
            error=error if running is None else f"{error}; in the span {running!r}",
            facts={**links, **({"running": running} if running else {})},
        ))
        return closing
