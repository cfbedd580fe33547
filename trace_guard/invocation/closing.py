"""The end of an invocation that user code has come to: closing what is open, and delivering.

Where the platform lets delivery wait until the response is on its way it is done in two parts: the root's end is
written at once, all else after the response. If a watchdog or a signal has ended the invocation before, and its code
has come to its end in time after all, then the real end wins, see :mod:`trace_guard.invocation.late_return`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..contain import contain, contained
from ..deadline import Deadline
from ..outcome import ClosedBy, Delivery, FlushPolicy, Outcome, Verdict
from ..rows import closing_row
from ..runtime.state import PROCESS
from .forced_close import DRAIN_SECONDS, EARLY, LAST_DRAIN_SECONDS

if TYPE_CHECKING:
    from ..journal.format import Position
    from ..journal.journal import Journal
    from ..journal.open_spans import EndedEarly, InvocationRecord
    from ..rows import Row
    from .invocation import Invocation

__all__ = ["Ending", "aside", "corrected"]

# Of what is left before the deadline when the reserve is being used up already.
_LAST_SHARE = 0.5


class Ending:
    """Closes what is open, the root last, and delivers.

    Args:
        error: what user code raised.
        failure: an error that nobody raised, in words.

    Attributes:
        outcome: of the invocation: that of its code, if that has come to its end in time. It has not after the
            deadline; and what is fatal is the way in which platforms end code, and so no end of its own.
    """

    def __init__(self, invocation: Invocation, error: BaseException | None, failure: str | None) -> None:
        self._invocation = invocation
        self._error = error
        self._root_is_closed = False
        own = Outcome.OK if error is None and failure is None else Outcome.ERROR
        early = invocation.outcome
        self._takes_back = early is not None and not invocation.deadline.expired and not is_fatal(error)
        self.outcome = own if early is None or self._takes_back else early

    def close(self) -> None:
        """Close and deliver; or close the root only, if the rest can wait until after the response."""
        invocation = self._invocation
        runtime = invocation.guard.runtime
        if invocation._alarm is not None:
            runtime.watchdog.disarm(invocation._alarm)
        runtime.running.pop(invocation.span.id, None)
        # One bound for all of it, so that what the SDK takes is not added to what the delivery may.
        bound = self._latest.capped(invocation.patience)
        after_response = invocation.after_response
        if after_response is not None and invocation._record is not None and not is_fatal(self._error):
            # Emptying the SDK's queue takes a millisecond: that can wait too, as its end is on disk.
            if not self._takes_back and self._is_root_due(invocation._record):
                invocation._beginning.make_up()
                runtime.append([*self._last_words(), self._root_end()])
                self._root_is_closed = True
            way = contained("put off until after the response", lambda: after_response(self.settle), None)
            if way is not None:
                with invocation._lock:  # it may be done by now
                    invocation.delivery = invocation.delivery or Delivery(Verdict.DEFERRED, way=way)
                return
        self.settle(bound, "before-response")

    def settle(self, deadline: Deadline, way: str) -> None:
        """Close what is open, and deliver."""
        invocation = self._invocation
        deadline = deadline.capped(invocation.patience)
        if self._takes_back:
            # The time that is kept back for closing and delivery is what it has come to.
            deadline = max(deadline, Deadline.after(self._rest * _LAST_SHARE))
        drains = invocation.guard.drains
        if drains and invocation._record is not None and invocation._context is not None:
            with contain("call what is to be called before the delivery"):
                # Half of the time, so that what they have logged can still be sent.
                drains.run(invocation._context, deadline.capped(deadline.remaining / 2))
        with contain("empty the SDK's queue"):
            if not PROCESS.sdk.is_quiet:
                PROCESS.sdk.drain(max(deadline.capped(DRAIN_SECONDS), Deadline.after(LAST_DRAIN_SECONDS)))
        journal, position, rows = self.close_spans()
        if invocation._record is not None:
            self._deliver(invocation._record, journal, position, rows, deadline, way)

    @property
    def _latest(self) -> Deadline:
        """The point up to which closing may take its time."""
        outermost = self._invocation._outer or self._invocation
        return outermost.deadline.minus(outermost._reserve)

    @property
    def _rest(self) -> float:
        """Seconds until the deadline, at most what a response may wait."""
        return min(self._invocation.time_left, self._invocation.patience)

    def close_spans(self) -> tuple[Journal, Position, int]:
        """Write the ends of what is open; the journal, the position behind them, and the rows of all."""
        invocation = self._invocation
        runtime, record, outcome = invocation.guard.runtime, invocation._record, invocation.outcome
        assert outcome is not None
        invocation._beginning.make_up()
        root, said = self._root_end(), self._last_words()
        if record is None:
            return (*runtime.append([*said, root]), 1)
        rows = runtime.spans.rows_of(record.root) + len(said)
        # From here on a start row that still arrives is late, and is closed as it arrives.
        early = runtime.spans.finish(record.root)
        if early is not None and self._takes_back:
            if said:
                runtime.append(said)
            return (*self._take_back(early, root), rows + len(early.spans) + 1)
        left = [span for span in runtime.spans.open_of(record.root) if span.row_id != record.root]
        closing = runtime.close_spans(left, outcome, ClosedBy.GUARD, "left_open", invocation._ended)
        if self._is_root_due(record):
            closing.append(root)
        return (*runtime.append([*said, *closing]), rows + len(closing))

    def _last_words(self) -> list[Row]:
        """What was logged at the end and is yet to be written, given out once."""
        said, self._invocation._last_words = self._invocation._last_words, []
        return said

    def _is_root_due(self, record: InvocationRecord) -> bool:
        """False if the root is closed already: by the watchdog, whose word stands if the code comes to its end after
        the deadline, or to put the rest off until after the response."""
        if self._invocation.guard.runtime.spans.is_open(record.root):
            return True
        return not self._root_is_closed and self.outcome not in EARLY

    def _take_back(self, early: EndedEarly, root: Row) -> tuple[Journal, Position]:
        from .late_return import NearMiss  # rarely needed

        invocation = self._invocation
        assert invocation.outcome is not None
        miss = NearMiss(early, root, invocation.outcome, invocation._ended)
        return invocation.guard.runtime.revise(invocation._beginning.journal, early.since, miss.rows)

    def _root_end(self) -> Row:
        """The row that closes the root."""
        invocation, error = self._invocation, self._error
        assert invocation.outcome is not None
        # The very text that goes through the SDK: which of the two rows comes last must make no difference.
        text = contained(
            "write down the error", lambda: invocation._error_text(error),
            None if error is None else type(error).__name__,
        )
        told = invocation.guard.runtime.spans.has_error(invocation.span.id)
        return closing_row(
            invocation._beginning.identity, end=invocation._ended, outcome=invocation.outcome,
            error=None if told else text,
        )

    def _deliver(
        self, record: InvocationRecord, journal: Journal, position: Position, rows: int, bound: Deadline, way: str
    ) -> None:
        invocation = self._invocation
        runtime = invocation.guard.runtime
        if not invocation._beginning.is_recorded:
            # Its start did not fit under the journal's cap, and so nothing of it was kept.
            delivery = Delivery(Verdict.LOST, error="the journal is full: this trace was not recorded")
        elif way == "before-response" and invocation.guard.flush_policy is FlushPolicy.AFTER_RESPONSE:
            runtime.courier.send_soon()
            delivery = Delivery(Verdict.DEFERRED, rows, way="background")
        elif way == "external-extension":
            # Another process delivers from the journal, and this one's courier keeps out of its way.
            delivery = Delivery(Verdict.DEFERRED, rows, way=way)
        else:
            delivery = runtime.courier.deliver(journal, position, bound, roots=[record.root_span_id])
            delivery = replace(delivery, rows=rows, way=way)
        with invocation._lock:
            invocation.delivery = delivery


def corrected(invocation: Invocation, error: str) -> Callable[[Deadline], object]:
    """Write that an invocation that ended well did not, after all; what delivers that, within a deadline."""
    runtime, record = invocation.guard.runtime, invocation._record
    assert record is not None
    journal, position = runtime.append([closing_row(
        PROCESS.sdk.identity_of(invocation.span), end=invocation._ended, outcome=Outcome.ERROR, reason="result",
        error=PROCESS.sdk.masked(error),
    )])
    return lambda deadline: runtime.courier.deliver(journal, position, deadline, roots=[record.root_span_id])


def is_fatal(error: BaseException | None) -> bool:
    """True for what runtimes don't catch: it ends the process, and with it all that was put off."""
    return error is not None and not isinstance(error, Exception)


def aside(work: Callable[[], object]) -> asyncio.Future[None] | None:
    """Do something in a thread of its own: those of the loop's executor may all be busy with what user code has
    given them. None if there is no loop of asyncio, or no thread can be had."""
    try:
        loop = asyncio.get_running_loop()
        done = loop.create_future()

        def settle() -> None:
            if not done.done():
                done.set_result(None)

        def run() -> None:
            try:
                work()
            finally:
                with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                    loop.call_soon_threadsafe(settle)

        threading.Thread(target=run, name="trace-guard-close").start()
    except RuntimeError:
        return None
    return done
