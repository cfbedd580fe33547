"""Closes an invocation whose code has ended, and delivers its rows.

Some platforms allow delivery after the response. There, closing has two parts: the root's end is written at once, the
rest follows after the response. If a forced close came first but the code still returned before the deadline, the real
end wins: see :mod:`trace_guard.invocation.late_return`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..contain import contain, contained
from ..deadline import Deadline
from ..outcome import ClosedBy, Delivery, FlushPolicy, Outcome, Verdict, Way
from ..rows import Row, closing_row, has_ended, identity, merge
from ..runtime.forgotten import report
from ..runtime.state import PROCESS
from .forced_close import DRAIN_SECONDS, LAST_DRAIN_SECONDS
from .opening import write_start
from .state import FORCED, InvocationState

if TYPE_CHECKING:
    from ..journal.base import Journal
    from ..journal.format import Position
    from ..journal.invocation_record import InvocationRecord

__all__ = ["Closing", "corrected"]

# The share of the remaining time that a delivery may take once the reserve is in use.
_LAST_SHARE = 0.5
# The most that async code waits until its rows are in the journal.
_HAND_OVER_SECONDS = 0.05


class Closing:
    """Closes the open spans, the root last, and delivers.

    Args:
        error: what user code raised.

    Attributes:
        outcome: the code's own outcome if it finished before the deadline, else the forced one. Platforms end code
            with exceptions that are fatal to the process, so these never count as the code's own end.
    """

    def __init__(self, state: InvocationState, error: BaseException | None) -> None:
        self._state = state
        self._error = error
        self._is_root_closed = False
        # Rows that the SDK's queue still had when it was to be empty.
        self._undrained = 0
        # Those of spans in other objects are delivered with the invocation's own.
        self._traces: set[str] = set()
        own = Outcome.OK if error is None and state.root_metadata.error is None else Outcome.ERROR
        forced = state.outcome
        self._is_late_return = forced is not None and not state.deadline.expired and not is_fatal(error)
        self.outcome = own if forced is None or self._is_late_return else forced

    def close(self) -> None:
        """Close and deliver. Closes only the root if the rest can wait until after the response."""
        state, pipeline = self._state, self._state.pipeline
        if state.alarm is not None:
            pipeline.watchdog.disarm(state.alarm)
        pipeline.running.pop(state.span.id, None)
        # One bound for everything: draining the SDK's queue uses up the time of the delivery.
        bound = state.latest.capped(state.patience)
        after_response = state.hands_over or (None if is_fatal(self._error) else state.after_response)
        if after_response is not None and state.record is not None:
            # With the root's end on disk, draining the SDK's queue can wait too.
            if not self._is_late_return and self._is_root_due(state.record):
                write_start(state)
                pipeline.append(self._of_root(self._root_end()))
                self._is_root_closed = True
            way = contained("defer the delivery until after the response", lambda: after_response(self.settle), None)
            if way is not None:
                with state.lock:  # the delivery may have finished already
                    state.delivery = state.delivery or Delivery(Verdict.DEFERRED, way=way)
                return
        self.settle(bound, Way.BEFORE_RESPONSE)

    def settle(self, deadline: Deadline, way: Way) -> None:
        """Close the open spans and deliver."""
        state = self._state
        deadline = deadline.capped(state.patience)
        if self._is_late_return:
            # The reserve is for closing and delivery: use it.
            rest = min(state.deadline.remaining, state.patience)
            deadline = max(deadline, Deadline.after(rest * _LAST_SHARE))
        hands_over = state.hands_over
        hooks = state.guard.flush_hooks
        if hands_over is not None and (hooks or state.elsewhere):
            hands_over.written()  # user code, or a request, comes first
        if hooks and state.record is not None and state.context is not None:
            with contain("run the flush hooks"):
                # The other half of the time is for sending what the hooks log.
                hooks.run(state.context, deadline.capped(deadline.remaining / 2))
        with contain("close spans of other destinations"):
            about = {"outcome": self.outcome.value, "closed_by": ClosedBy.GUARD.value, "reason": "left_open"}
            if state.elsewhere:
                bound = deadline.capped(deadline.remaining / 2)
                PROCESS.sdk.close_elsewhere(state.elsewhere, state.ended, about, bound)
        with contain("empty the SDK's queue"):
            is_quiet = PROCESS.sdk.is_quiet or (
                hands_over is not None and PROCESS.sdk.drain(Deadline.after(_HAND_OVER_SECONDS))
            )
            if not is_quiet and hands_over is not None:
                hands_over.written()  # a masking function is slow
            if not is_quiet and not PROCESS.sdk.drain(
                max(deadline.capped(DRAIN_SECONDS), Deadline.after(LAST_DRAIN_SECONDS))
            ):
                self._undrained = PROCESS.sdk.pending
        journal, position, rows = self.close_spans()
        if hands_over is not None:
            hands_over.written()
        if state.record is not None:
            self._deliver(state.record, journal, position, rows, deadline, way)

    def close_spans(self) -> tuple[Journal, Position, int]:
        """Write the ends of the open spans. Returns journal, position after them, and row count of the
        invocation."""
        state, pipeline, outcome = self._state, self._state.pipeline, self.outcome
        write_start(state)
        root_end = self._root_end()
        if state.record is None:
            return (*pipeline.append(self._of_root(root_end)), 1)
        record = state.record
        rows = pipeline.spans.rows_of(record.root)
        self._traces = pipeline.spans.traces_of(record.root)
        if links := pipeline.spans.links_of(record.root):
            state.unwritten.append({**identity(state.root), "_is_merge": True, "metadata": {"trace_guard": links}})
        # From here on, a start row that arrives is late and is closed on arrival.
        forced = pipeline.spans.finish(record.root)
        if forced is not None and self._is_late_return:
            from .late_return import corrections  # rarely needed

            left = [span.span for span in forced.spans if not has_ended(span.own_end)]
            closing = corrections(forced.spans, forced.root, root_end, outcome, state.ended) + self._of_root()
        else:
            left = [span for span in pipeline.spans.open_of(record.root) if span.row_id != record.root]
            closing = pipeline.close_spans(left, outcome, ClosedBy.GUARD, "left_open", state.ended)
            closing += self._of_root(root_end) if self._is_root_due(record) else self._of_root()
        written = pipeline.append(closing)
        report(left)
        return (*written, rows + len(closing))

    def _of_root(self, *more: Row) -> list[Row]:
        """What the root has still to log, as one row; none if there is nothing."""
        unwritten, self._state.unwritten = self._state.unwritten, []
        row: Row = {}
        for part in (*unwritten, *more):
            merge(row, part)
        return [row] if row else []

    def _is_root_due(self, record: InvocationRecord) -> bool:
        """False if the root is closed already, by a forced close that stands or before the response."""
        if self._state.pipeline.spans.is_open(record.root):
            return True
        return not self._is_root_closed and self.outcome not in FORCED

    def _root_end(self) -> Row:
        state = self._state
        # The row that goes through the SDK has the same text, so the order of the two does not matter.
        text = state.known_error_text(self._error)
        has_error = state.pipeline.spans.has_error(state.span.id)
        return closing_row(
            identity(state.root), end=state.ended, outcome=self.outcome, error=None if has_error else text
        )

    def _deliver(
        self, record: InvocationRecord, journal: Journal, position: Position, rows: int, bound: Deadline, way: Way
    ) -> None:
        state = self._state
        courier = state.pipeline.courier
        if way is not Way.EXTERNAL_EXTENSION:
            with contain("recover what forked children left behind"):
                state.pipeline.neighbours.adopt_children(bound)
        if not state.is_recorded:
            delivery = Delivery(Verdict.LOST, error="the journal is full: this trace was not recorded")
        elif way is Way.BEFORE_RESPONSE and state.guard.flush_policy is FlushPolicy.AFTER_RESPONSE:
            courier.send_soon()
            delivery = Delivery(Verdict.DEFERRED, rows, way=Way.BACKGROUND)
        elif state.starter is not None and state.starter.is_live and not is_fatal(self._error):
            # The end of the other one delivers too, so its code need not wait here.
            courier.send_soon()
            delivery = Delivery(Verdict.DEFERRED, rows, way=Way.BACKGROUND)
        elif way is Way.EXTERNAL_EXTENSION:
            # Another process delivers from the journal. This courier must not compete with it.
            delivery = Delivery(Verdict.DEFERRED, rows, way=way)
        else:
            is_waited_for = state.announces_waits and way is not Way.BACKGROUND
            notice = state.pipeline.notice if is_waited_for else None
            traces = self._traces | {record.root_span_id}
            delivery = courier.deliver(journal, position, bound, roots=traces, notice=notice)
            delivery = replace(delivery, rows=rows, way=way)
            delivery = self._with_others(delivery, bound)
        with state.lock:
            state.delivery = self._with_losses(delivery)

    def _with_others(self, delivery: Delivery, bound: Deadline) -> Delivery:
        """Deliver the rows of forked children and what goes to other destinations too, as the platform may freeze the
        process afterwards."""
        state = self._state
        if not contained(
            "deliver what forked children left behind", lambda: state.pipeline.neighbours.deliver_children(bound), True
        ) and delivery.verdict is Verdict.DELIVERED:
            delivery = replace(
                delivery, verdict=Verdict.SPOOLED, error="rows of forked children are not delivered yet"
            )
        if contained(
            "deliver to other destinations", lambda: PROCESS.deliver_others(state.pipeline, state.began, bound), True
        ) or delivery.verdict is not Verdict.DELIVERED:
            return delivery
        return replace(delivery, verdict=Verdict.SPOOLED, error="rows of other credentials are not delivered yet")

    def _with_losses(self, delivery: Delivery) -> Delivery:
        """The delivery as it is with what the journal never had."""
        sdk, root = PROCESS.sdk, self._state.span.id
        lost = sdk.lost_of(root) + sdk.lost_of(None) - self._state.lost_before
        sdk.forget_losses(root)
        reasons = [reason for count, reason in (
            (self._undrained, f"{self._undrained} rows are still in the SDK's queue, in memory only: its masking "
                              "function or customizers are slow, or hang"),
            (lost, f"{lost} rows could not be made by the SDK, and what they log is lost"),
        ) if count]
        if not reasons:
            return delivery
        error = "; ".join([*([delivery.error] if delivery.error else []), *reasons])
        return replace(delivery, verdict=Verdict.LOST, error=error)


def corrected(state: InvocationState, error: str) -> Callable[[Deadline], object]:
    """Turn a successful end into an error. Returns a function that delivers the change within a deadline."""
    pipeline, record = state.pipeline, state.record
    assert record is not None
    journal, position = pipeline.append([closing_row(
        PROCESS.sdk.identity_of(state.span), end=state.ended, outcome=Outcome.ERROR, reason="result",
        error=PROCESS.sdk.masked(error),
    )])
    return lambda deadline: pipeline.courier.deliver(journal, position, deadline, roots=[record.root_span_id])


def is_fatal(error: BaseException | None) -> bool:
    """True for exceptions that runtimes don't catch. They end the process, and with it any deferred work."""
    return error is not None and not isinstance(error, Exception)
