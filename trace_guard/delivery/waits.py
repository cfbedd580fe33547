"""Makes callers wait for their rows, and tells each what became of them."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ..contain import contain
from ..deadline import Deadline
from ..errors import BackendError, BackendUnauthorized
from ..outcome import Delivery, Verdict
from ..system.clock import monotonic
from .breaker import RETRY_SECONDS
from .lanes import OTHER_PROCESS_PAUSE, OTHER_PROCESS_SECONDS, Request

if TYPE_CHECKING:
    from ..journal.base import Journal
    from ..journal.format import Position
    from .breaker import Breaker
    from .journals import Journals
    from .pool import WorkerPool
    from .schedule import Schedule
    from .sender import Sender

__all__ = ["Notice", "Waits"]

# A drain gives up after so many requests that were refused for their key.
_MOST_UNAUTHORIZED = 3
_LOSS = "another program has removed or changed files of the journal: rows that had not been delivered are lost"


class Notice(NamedTuple):
    """Announces a long wait.

    Attributes:
        after: the seconds after which a wait is long.
        say: called once, with the deadline of the wait.
    """

    after: float
    say: Callable[[Deadline], object]


class _Results:
    """Counts the results of requests. A caller compares the counts with those of the time when it began to wait.

    Attributes:
        last_error: the error of the last request, or None if it succeeded.
    """

    def __init__(self) -> None:
        self.finished = self.failures = self.unauthorized = self.lasting = 0
        self.last_error: BackendError | None = None

    def count(self, error: BackendError | None) -> None:
        """Count a finished request."""
        self.finished += 1
        self.last_error = error
        self.failures += error is not None
        self.unauthorized += isinstance(error, BackendUnauthorized)
        self.lasting += getattr(error, "lasting", False)


class _Waiter:
    """A caller that waits for the rows of some traces before a position, or for all rows before it.

    It sleeps on a lock of its own, so that nobody else wakes it, and it need not queue for the courier's lock.

    Attributes:
        failed: an attempt to deliver its rows has failed.
    """

    def __init__(
        self, lock: threading.Lock, journal: Journal, journals: Journals, traces: list[str], upto: Position
    ) -> None:
        cursor = journals.find(journal)
        self.failed = False
        self._lock = lock
        self._asleep = threading.Lock()
        self._asleep.acquire()
        self._journal = journal
        self._cursor = cursor
        # Those that the process wrote to before may have the first rows of the traces.
        self._retired = [(other, other.end) for other in journals if other.retired and other is not cursor]
        self._traces = traces
        self._upto = upto
        self._read_failures = cursor.read_failures if cursor is not None else 0

    @property
    def is_settled(self) -> bool:
        """True if its rows are delivered, or dead letters."""
        if self._cursor is None:
            is_settled = self._journal.acked >= self._upto
        else:
            is_settled = self._cursor.is_settled(self._traces, self._upto)
        return is_settled and all(other.is_settled(self._traces, end) for other, end in self._retired)

    def is_over(self) -> bool:
        return self.failed or self.is_settled

    def sleep(self, deadline: Deadline) -> bool:
        """Sleep until :meth:`wake`. Returns False if the deadline passes first."""
        return self._asleep.acquire(timeout=min(deadline.remaining, threading.TIMEOUT_MAX))

    def wait(self, timeout: float) -> object:
        """Sleep without the courier's lock, which the caller holds, as a condition does."""
        self._lock.release()
        try:
            return self._asleep.acquire(timeout=timeout)
        finally:
            self._lock.acquire()

    def wake(self) -> None:
        """Wake it, once."""
        with contextlib.suppress(RuntimeError):  # it is awake
            self._asleep.release()

    def waits_for(self, traces: set[str]) -> bool:
        """True if it may have waited for rows of these traces. Rows without a trace concern everybody."""
        return not self._traces or "" in traces or not traces.isdisjoint(self._traces)

    def note_failure(self, traces: set[str]) -> None:
        """A request with rows of these traces has failed. So will the rows that are in no other request."""
        self.failed = self.failed or self._cursor is None or self.waits_for(traces) or not self._cursor.is_in_flight(
            self._traces
        )

    def note_read(self) -> None:
        """The journal was read, or can't be."""
        self.failed = self.failed or (self._cursor is not None and self._cursor.read_failures != self._read_failures)


class Waits:
    """The callers that wait for deliveries. The courier holds its lock for all calls but :meth:`deliver`.

    Attributes:
        results: what became of the requests so far.
    """

    def __init__(
        self, lock: threading.Lock, pool: WorkerPool[Request], schedule: Schedule, journals: Journals, sender: Sender,
        breaker: Breaker,
    ) -> None:
        self.results = _Results()
        self._lock = lock
        self._changed = threading.Condition(lock)
        self._waiters: list[_Waiter] = []
        self._pool = pool
        self._schedule = schedule
        self._journals = journals
        self._sender = sender
        self._breaker = breaker

    def finished(self, request: Request, error: BackendError | None) -> Callable[[], None]:
        """A request has ended. Returns what wakes the callers that waited for its rows. Anybody else sleeps on."""
        self.results.count(error)
        woken = []
        for waiter in self._waiters:
            if error is not None:
                waiter.note_failure(request.traces)
            if waiter.failed or (waiter.waits_for(request.traces) and waiter.is_settled):
                woken.append(waiter)
        self._changed.notify_all()

        def wake() -> None:
            for waiter in woken:
                waiter.wake()

        return wake

    def notify(self, *, failed: bool = False) -> None:
        """Wake everybody who need not wait any longer.

        Args:
            failed: nothing can be delivered for now.
        """
        for waiter in self._waiters:
            waiter.note_read()
            waiter.failed = waiter.failed or failed
            if waiter.is_over():
                waiter.wake()
        self._changed.notify_all()

    def deliver(
        self, journal: Journal, upto: Position, deadline: Deadline, roots: list[str], notice: Notice | None
    ) -> Delivery:
        """Wait until rows are delivered; see :meth:`.courier.Courier.deliver`."""
        began = monotonic()
        with self._lock:
            cursor = self._journals.find(journal)
            if cursor is not None:
                cursor.pull()
            # A request that a freeze has interrupted is made again before the next freeze, whoever's rows it has.
            traces = [] if self._pool.is_interrupted else roots
            waiter = _Waiter(self._lock, journal, self._journals, traces, upto)
            bound = self._breaker.bound(deadline)
            is_settled = waiter.is_settled
            finished = self.results.finished
            if not is_settled and not bound.expired:
                self._waiters.append(waiter)
                self._schedule.send_all()
                # Where the lock is needed to wait, it is kept.
                is_watched = not self._pool.wake(len(self._pool.in_flight) + 1) or self._pool.is_interrupted
        if not is_settled and not bound.expired:
            try:
                self._sleep(waiter, bound, notice, is_watched=is_watched)
            finally:
                with self._lock:
                    self._waiters.remove(waiter)
                    is_settled = waiter.is_settled
                    if not is_settled and not waiter.failed and self.results.finished == finished:
                        self._note_silence(monotonic() - began)
        seconds = monotonic() - began
        if self._journals.may_have_lost(journal, upto, roots):
            return Delivery(Verdict.LOST, seconds=seconds, error=_LOSS)
        if not is_settled:
            verdict = Verdict.SPOOLED if journal.durable else Verdict.LOST
            return Delivery(verdict, seconds=seconds, error=self._why_not(journal))
        refusal = self._sender.refusal(roots)
        return Delivery(Verdict.REFUSED if refusal else Verdict.DELIVERED, seconds=seconds, error=refusal)

    def _sleep(self, waiter: _Waiter, deadline: Deadline, notice: Notice | None, *, is_watched: bool) -> None:
        """Wait until rows are delivered or an attempt has failed: the time that is left is the caller's.

        Args:
            is_watched: the caller may have to do the work itself, or to give up what a freeze has interrupted.
        """
        for until in [deadline] if notice is None else [deadline.capped(notice.after), deadline]:
            if is_watched:
                with self._lock:
                    self._pool.wait_for(waiter, waiter.is_over, until)
                    is_over = waiter.is_over()
            else:
                is_over = waiter.sleep(until)
            if is_over:
                return
            if until is not deadline and notice is not None:
                with contain("announce a wait"):
                    notice.say(deadline)

    def _note_silence(self, seconds: float) -> None:
        """If a wait was long enough to mean something, requests that did not end in it count as failed."""
        if self._schedule.in_flight and self._breaker.unanswered(seconds):
            for request in self._schedule.in_flight:
                request.timed_out = True

    def _why_not(self, journal: Journal) -> str:
        """Why rows of a journal are not delivered yet."""
        cursor = self._journals.find(journal)
        read_error = cursor.read_error if cursor is not None else None
        return read_error or self._breaker.last_error or "no answer in time"

    def drain(self, deadline: Deadline, *, force: bool) -> bool:
        """Wait until every journal is delivered; see :meth:`.courier.Courier.drain`."""
        unauthorized, lasting = self.results.unauthorized, self.results.lasting
        patience = Deadline.after(OTHER_PROCESS_SECONDS)
        while not deadline.expired:
            pending = [cursor for cursor in self._journals if not cursor.delivered]
            if not pending:
                return True
            # Another process delivers from all of them. It is done soon, unless it was stopped.
            others = all(cursor.taken_elsewhere or cursor.read_error for cursor in pending)
            patience = patience if others else Deadline.after(OTHER_PROCESS_SECONDS)
            if patience.expired or (self._breaker.is_open and not force) or self.results.lasting != lasting:
                return False
            if self.results.unauthorized - unauthorized >= _MOST_UNAUTHORIZED:
                return False
            self._breaker.let_through()
            if self._breaker.retry_at > deadline.at:
                return False  # the server asks for a longer pause
            self._schedule.send_all()
            self._pool.wake(len(self._pool.in_flight) + 1)
            self._wait_for_progress(deadline.capped(OTHER_PROCESS_PAUSE if others else RETRY_SECONDS), deadline)
        return all(cursor.delivered for cursor in self._journals)

    def _wait_for_progress(self, until: Deadline, deadline: Deadline) -> None:
        """Wait until a request has finished, and for another while if it has failed."""
        finished, failures = self.results.finished, self.results.failures

        def is_over() -> bool:
            return (self.results.finished, self.results.failures) != (finished, failures) or all(
                cursor.delivered for cursor in self._journals
            )

        self._pool.wait_for(self._changed, is_over, until)
        if self.results.failures != failures:
            self._changed.wait(min(deadline.remaining, RETRY_SECONDS))
