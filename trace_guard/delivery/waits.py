"""Makes callers wait for their rows, and tells each what became of them."""

from __future__ import annotations

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


class _Waiter(NamedTuple):
    """A caller that waits for its rows: what it sleeps on, and whether it can go on."""

    condition: threading.Condition
    is_over: Callable[[], bool]


class Waits:
    """The callers that wait for deliveries. The courier holds its lock for all calls.

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

    def notify(self) -> None:
        """Wake the callers whose own rows are settled, and those that drain."""
        for waiter in self._waiters:
            if waiter.is_over():
                waiter.condition.notify()
        self._changed.notify_all()

    def deliver(
        self, journal: Journal, upto: Position, deadline: Deadline, roots: list[str], notice: Notice | None
    ) -> Delivery:
        """Wait until a journal is acknowledged up to a position; see :meth:`.courier.Courier.deliver`."""
        began = monotonic()
        bound = self._breaker.bound(deadline)
        if journal.acked < upto and not bound.expired:
            self._wait_for_rows(journal, upto, bound, notice)
        seconds = monotonic() - began
        if self._journals.may_have_lost(journal, upto, roots):
            return Delivery(Verdict.LOST, seconds=seconds, error=_LOSS)
        if journal.acked < upto:
            verdict = Verdict.SPOOLED if journal.durable else Verdict.LOST
            return Delivery(verdict, seconds=seconds, error=self._why_not(journal))
        refusal = self._sender.refusal(roots)
        return Delivery(Verdict.REFUSED if refusal else Verdict.DELIVERED, seconds=seconds, error=refusal)

    def _wait_for_rows(
        self, journal: Journal, upto: Position, deadline: Deadline, notice: Notice | None
    ) -> None:
        """Wait until rows are delivered or an attempt has failed: the time that is left is the caller's."""
        began, finished, failures = monotonic(), self.results.finished, self.results.failures
        cursor = self._journals.find(journal)
        read_failures = cursor.read_failures if cursor is not None else 0

        def is_over() -> bool:
            return (
                journal.acked >= upto or self.results.failures != failures
                or (cursor is not None and cursor.read_failures != read_failures)
            )

        waiter = _Waiter(threading.Condition(self._lock), is_over)
        self._waiters.append(waiter)
        self._schedule.send_all()
        self._pool.wake()
        try:
            if notice is not None:
                self._pool.wait_for(waiter.condition, is_over, deadline.capped(notice.after))
                if not is_over():
                    self._say(notice, deadline)
            self._pool.wait_for(waiter.condition, is_over, deadline)
        finally:
            self._waiters.remove(waiter)
        if (
            not is_over() and self._schedule.in_flight and self.results.finished == finished
            and self._breaker.unanswered(monotonic() - began)
        ):
            for request in self._schedule.in_flight:
                request.timed_out = True

    def _say(self, notice: Notice, deadline: Deadline) -> None:
        """Announce a wait, without the lock: stderr may be slow."""
        self._lock.release()
        try:
            with contain("announce a wait"):
                notice.say(deadline)
        finally:
            self._lock.acquire()

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
            self._pool.wake()
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
