"""Takes attachments from their spools to the backend, beside the rows and never in their way.

They have a lane of their own, with its own breaker: the object store that takes their contents may be down, or
out of a network's reach, while rows are delivered; and a large one must not hold up the end of a span. They
leave as soon as they are there. Threads are started when there is something to upload, and end with it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..backends.base import TakesAttachments
from ..contain import contain, is_shortage, report, warn_once
from ..deadline import Deadline
from ..errors import BackendError, BackendRefused, BackendUnauthorized, BackendUnavailable
from ..journal.spooled import Content, SpooledAttachment
from .breaker import Breaker, bounded_wish
from .isolation import STRIKES

if TYPE_CHECKING:
    from ..journal.base import Journal
    from .dead_letters import DeadLetters

__all__ = ["Uploads"]

_IN_FLIGHT = 4
# What one may take: half a minute, and longer for a large one, as if the line were slow.
_UPLOAD_SECONDS = 30.0
_SLOW_LINE = 256 * 1024
_RETRY_SECONDS = 0.5
_LONGEST_RETRY_SECONDS = 60.0
# How often, and how long, to look again while another process uploads from the same journal.
_OTHERS_PAUSE = 0.05
_OTHERS_SECONDS = 2.0
# How long an invocation waits for a probe of a backend that is known to be down.
_PROBE_SECONDS = 0.25
# How long an upload that was under way when the process was frozen may still turn out to have been answered.
_STALE_SECONDS = 0.1
# A wait shorter than this that ends without an answer says nothing about the backend.
_TELLING_SECONDS = 0.5
_REMEMBERED = 10_000
_CONTROL_BYTES = 64 * 1024


@dataclass(eq=False)
class _Flight:
    """An upload under way; ``frozen`` if the process was meanwhile, ``void`` once it is given up."""

    journal: Journal
    one: SpooledAttachment
    thread: threading.Thread
    frozen: bool = False
    void: bool = False


@dataclass
class _Trouble:
    """How often one has failed in a row, why, and when it is tried again, on the monotonic clock."""

    failures: int
    error: str
    again_at: float


class Uploads:
    """One for each courier.

    Args:
        backend: where attachments go.
        dead_letters: where those go that it refuses for good.
        settled: called, without any lock, when one has been delivered or refused.
    """

    def __init__(self, backend: TakesAttachments, dead_letters: DeadLetters, settled: Callable[[], None]) -> None:
        self.backend = backend
        self._dead_letters = dead_letters
        self._settled = settled
        self._changed = threading.Condition(threading.Lock())
        self._breaker = Breaker()
        self._journals: list[Journal] = []
        self._not_before = 0.0
        self._flights: list[_Flight] = []
        self._threads: list[threading.Thread] = []
        self._troubles: dict[SpooledAttachment, _Trouble] = {}
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._landings = 0
        self._control: SpooledAttachment | None = None
        self._closed = False

    def add(self, journal: Journal, *, backlog: bool = False, linger: float = 0.0) -> None:
        """Upload what a journal has, or has more of by now.

        Args:
            backlog: its process is gone: all others go first.
            linger: seconds to wait unless somebody asks, as it is too early for the network.
        """
        with self._changed:
            if not self._waiting() or not linger:
                self._not_before = time.monotonic() + linger if linger else 0.0
            if not any(one is journal for one in self._journals):
                self._journals.insert(len(self._journals) if backlog else 0, journal)
            self._wake()

    def forget(self, journal: Journal) -> None:
        """Upload no more of a journal. What is under way comes to its end."""
        with self._changed:
            self._journals = [one for one in self._journals if one is not journal]
            for one in journal.attachments.waiting if journal.attachments is not None else ():
                self._troubles.pop(one, None)

    def soon(self) -> None:
        """Upload all there is, without making anybody wait for it."""
        with self._changed:
            self._not_before = 0.0
            self._wake()

    def refusal(self, roots: Collection[str]) -> str | None:
        """Why an attachment of one of these traces will never be there, or None."""
        return next((self._refused[root] for root in roots if root in self._refused), None)

    def refuse(self, one: SpooledAttachment, error: str) -> None:
        """Note that an attachment will never be there."""
        self._refused[str(one.root)] = error
        while len(self._refused) > _REMEMBERED:
            self._refused.popitem(last=False)

    def now(self, one: SpooledAttachment) -> str | None:
        """Upload one that can't be kept, and wait for it; why it could not be done, or None."""
        if self._breaker.is_open:
            return f"it could not be kept, and {self._breaker.last_error}"
        error = self._upload(one, _deadline_of(one))
        if error is not None and not isinstance(error, BackendRefused):
            with self._changed:
                self._breaker.failed(str(error))
        return None if error is None else str(error)

    def wait(self, journal: Journal, roots: Collection[str], deadline: Deadline) -> tuple[int, str | None]:
        """Wait until the attachments of some traces are delivered, or each has been tried and has failed.

        Args:
            journal: those in it of which no trace is known count as well.
            roots: ids of the traces.

        Returns:
            How many are left, and why.
        """
        began = time.monotonic()
        self.soon()
        with self._changed:
            mine = [one for source, one in self._waiting() if one.root in roots or (
                one.root is None and source is journal
            )]
            if not mine:
                return 0, None
            failures = {one: self._failures_of(one) for one in mine}
            landings = self._landings
            if self._breaker.is_open:
                deadline = deadline.capped(_PROBE_SECONDS if self._breaker.allows() else 0.0)
            while not deadline.expired:
                left = {one for _, one in self._waiting()}.intersection(mine)
                if all(self._failures_of(one) > failures[one] for one in left):
                    break
                self._wait_for_change(deadline)
            left = {one for _, one in self._waiting()}.intersection(mine)
            waited = time.monotonic() - began
            if left and self._flights and self._landings == landings and waited >= _TELLING_SECONDS:
                # To whoever comes next the object store is as good as down.
                self._breaker.failed(f"no answer within {waited:.2f} s")
            errors = [self._troubles[one].error for one in left if one in self._troubles]
            error = next(iter(errors), self._breaker.last_error or "no answer in time")
            return len(left), error if left else None

    def drain(self, deadline: Deadline, *, force: bool = False) -> bool:
        """Upload everything; True if nothing is left.

        Args:
            force: go on although the backend is known to be down.
        """
        self.soon()
        with self._changed:
            drained = self._drain(deadline, force)
            self._leave_idle()
            return drained

    def thawed(self) -> None:
        """The process was frozen: what was under way before may never be answered."""
        with self._changed:
            for flight in self._flights:
                flight.frozen = True

    def close(self) -> None:
        """Stop the threads once what is under way is done; what is left stays where it is."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            threads = list(self._threads)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(_STALE_SECONDS)
        with self._changed:
            self._leave_idle()

    # Under the lock

    def _drain(self, deadline: Deadline, force: bool) -> bool:
        patience = Deadline.after(_OTHERS_SECONDS)
        while waiting := self._waiting():
            if deadline.expired or (self._breaker.is_open and not force):
                return False
            if not self._flights and not any(self._is_ours(journal) for journal, _ in waiting):
                if patience.expired:
                    return False  # whoever uploads was stopped over it
                self._changed.wait(min(deadline.remaining, _OTHERS_PAUSE))
                continue
            patience = Deadline.after(_OTHERS_SECONDS)
            if force:
                self._breaker.let_through()
                latest = time.monotonic() + _RETRY_SECONDS
                for trouble in self._troubles.values():
                    trouble.again_at = min(trouble.again_at, latest)
            self._wait_for_change(deadline)
        return True

    def _waiting(self) -> list[tuple[Journal, SpooledAttachment]]:
        return [
            (journal, one)
            for journal in self._journals if journal.attachments is not None for one in journal.attachments.waiting
        ]

    def _failures_of(self, one: SpooledAttachment) -> int:
        trouble = self._troubles.get(one)
        return trouble.failures if trouble else 0

    @staticmethod
    def _is_ours(journal: Journal) -> bool:
        return journal.attachments is not None and journal.attachments.take_delivery()

    def _leave_idle(self) -> None:
        """Let other processes upload what nothing is under way of."""
        for journal in self._journals:
            if journal.attachments is not None and not any(one.journal is journal for one in self._flights):
                journal.attachments.leave_delivery()

    def _wait_for_change(self, deadline: Deadline) -> None:
        if any(flight.frozen for flight in self._flights):
            self._changed.wait(min(_STALE_SECONDS, deadline.remaining))
            for flight in [flight for flight in self._flights if flight.frozen]:
                flight.void = True
                self._flights.remove(flight)
                if flight.thread in self._threads:
                    self._threads.remove(flight.thread)
        if self._wake():
            self._changed.wait(min(deadline.remaining, _RETRY_SECONDS))
        else:
            self._work_inline(deadline)

    def _wake(self) -> bool:
        """See to it that there are threads for what can be uploaded now; False if none can be had."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        wanted = min(_IN_FLIGHT, len(self._waiting()))
        while not self._closed and len(self._threads) < wanted:
            thread = threading.Thread(target=self._run, name="trace-guard-uploads", daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The interpreter is shutting down, or at a limit: whoever waits does the work.
                return bool(self._threads)
            self._threads.append(thread)
        self._changed.notify_all()
        return bool(self._threads)

    def _take_off(self) -> tuple[_Flight | None, float | None]:
        """What is to be uploaded next; else the seconds until there may be something, or None if there is nothing."""
        now, pause = time.monotonic(), None
        under_way = {flight.one for flight in self._flights}
        for journal, one in self._waiting():
            if one in under_way:
                continue
            trouble = self._troubles.get(one)
            again_at = max(self._not_before, self._breaker.retry_at, trouble.again_at if trouble else 0.0)
            if again_at <= now and self._may_take(journal, one):
                flight = _Flight(journal, one, threading.current_thread())
                self._flights.append(flight)
                return flight, None
            wait = again_at - now if again_at > now else 2 * _OTHERS_PAUSE
            pause = wait if pause is None else min(pause, wait)
        return None, pause

    def _may_take(self, journal: Journal, one: SpooledAttachment) -> bool:
        """True if this process delivers from the spool. If that can't be found out, it counts as a failure."""
        try:
            return self._is_ours(journal)
        except Exception as fault:  # noqa: BLE001 - one spool that can't be used must not hold up the others
            report("take an attachment from its spool", fault)
            error = BackendError(f"an attachment can't be taken from its spool: {fault}")
            self._failed(one, error, counts=is_shortage(fault))
            self._changed.notify_all()
            return False

    def _failed(self, one: SpooledAttachment, error: BackendError, *, counts: bool = True) -> None:
        """Note a failure of one.

        Args:
            counts: it says something about the others as well.
        """
        failures = self._failures_of(one) + 1
        wish = getattr(error, "retry_after", None)
        pause = max(min(_LONGEST_RETRY_SECONDS, _RETRY_SECONDS * 2 ** (failures - 1)), bounded_wish(wish))
        self._troubles[one] = _Trouble(failures, str(error), time.monotonic() + pause)
        if counts:
            self._breaker.failed(str(error), wish)

    def _landed(self, flight: _Flight, error: BackendError | None) -> bool:
        """Book what came of an upload; True if nothing is to be done about it any more."""
        journal, one = flight.journal, flight.one
        self._flights.remove(flight)
        self._landings += 1
        settled = error is None or isinstance(error, BackendRefused) or one.vanished
        if error is None or settled:
            self._troubles.pop(one, None)
            if journal.attachments is not None:
                journal.attachments.remove(one)
            self._breaker.succeeded()
        else:
            self._failed(one, error)
        self._leave_idle()
        self._changed.notify_all()
        return settled

    # Outside the lock

    def _run(self) -> None:
        """A thread's life: upload what there is, and end when there is nothing more."""
        while True:
            with self._changed:
                if self._closed or threading.current_thread() not in self._threads:
                    return
                flight, pause = None, None
                with contain("take an attachment from its spool"):
                    flight, pause = self._take_off()
                if flight is None:
                    if pause is None:
                        self._threads.remove(threading.current_thread())
                        return
                    self._changed.wait(pause)
                    continue
            self._fly(flight, _deadline_of(flight.one))

    def _work_inline(self, deadline: Deadline) -> None:
        """Do a thread's work in the caller's: at the interpreter's exit there are no new threads."""
        flight, pause = self._take_off()
        if flight is None:
            self._changed.wait(min(deadline.remaining, pause or _STALE_SECONDS))
            return
        self._changed.release()
        try:
            self._fly(flight, min(deadline, _deadline_of(flight.one)))
        finally:
            self._changed.acquire()

    def _fly(self, flight: _Flight, deadline: Deadline) -> None:
        error: BackendError | None = BackendError("the upload was broken off")
        settled = False
        try:
            error = self._upload(flight.one, deadline)
        finally:
            with self._changed:
                if not flight.void:
                    settled = self._landed(flight, error)
            if settled:
                with contain("go on after an upload"):
                    self._settled()

    def _upload(self, one: SpooledAttachment, deadline: Deadline) -> BackendError | None:
        error = self._try(one, deadline)
        if isinstance(error, BackendUnavailable) and not one.vanished:
            error = self._judged(one, error, deadline)
        if isinstance(error, BackendRefused):
            self._dead_letters.keep_attachment(one, error.status, str(error))
            self.refuse(one, str(error))
        elif isinstance(error, BackendUnauthorized):
            warn_once("unauthorized", "%s. Attachments are kept, and sent again later", error)
        elif error is None:
            if one.error is not None:
                self.refuse(one, one.error)
            self._keep_control(one)
        return error

    def _try(self, one: SpooledAttachment, deadline: Deadline) -> BackendError | None:
        try:
            self.backend.attach(one, deadline)
        except BackendError as error:
            return error
        except Exception as fault:  # noqa: BLE001 - a fault of ours must not end the thread
            report("upload an attachment", fault)
            suspect = not is_shortage(fault)
            return BackendUnavailable(f"an attachment could not be uploaded: {fault!r}", suspect_rows=suspect)
        return None

    def _judged(
        self, one: SpooledAttachment, error: BackendUnavailable, deadline: Deadline
    ) -> BackendError | None:
        """One has failed. If it fails again and again, and another that was delivered before arrives each time in
        between, it is given up; else what came of it last."""
        control = self._control
        for _ in range(STRIKES - 1):
            if control is None or not error.suspect_rows or error.retry_after is not None or deadline.expired:
                return error
            if self._try(control, deadline) is not None:
                return error
            again = self._try(one, deadline)
            if not isinstance(again, BackendUnavailable):
                return again
            error = again
        if not error.suspect_rows or deadline.expired:
            return error
        return BackendRefused(f"{error}; it fails over this attachment alone", status=error.status)

    def _keep_control(self, one: SpooledAttachment) -> None:
        """Keep a copy of a small one that was delivered: sent once more, it shows whether the backend works."""
        if one.content is not None and one.content.size <= _CONTROL_BYTES:
            with contextlib.suppress(OSError):  # another process has just removed it
                self._control = replace(one, content=Content(b"".join(one.content)))


def _deadline_of(one: SpooledAttachment) -> Deadline:
    return Deadline.after(_UPLOAD_SECONDS + (one.content.size / _SLOW_LINE if one.content else 0.0))
