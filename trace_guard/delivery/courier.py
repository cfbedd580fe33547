"""Delivers rows from journals to the backend: at least once, in order for each span, without delaying anybody.

This is the relay of the transactional-outbox pattern. A lock protects all decisions; requests are made outside of it.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from ..backends.base import Backend, TakesAttachments
from ..contain import contain, report
from ..deadline import Deadline
from ..errors import BackendError, BackendUnauthorized
from ..journal.base import Journal
from ..journal.format import Kind, Position
from ..outcome import Delivery, Verdict
from ..rows import Row
from ..system.clock import monotonic
from .breaker import Breaker
from .dead_letters import DeadLetters
from .handover import MEMORY
from .journals import Journals
from .lanes import Request
from .pool import WorkerPool
from .schedule import Schedule
from .sender import Sender
from .waits import Notice, Waits

if TYPE_CHECKING:
    from ..journal.spooled import Content, SpooledAttachment
    from .uploads import Uploads

__all__ = ["Courier"]


class Courier:
    """Delivers the rows and attachments of all journals that have the same destination.

    Args:
        backend: where rows go.
        dead_letters: keeps rows that the backend refuses for good.
        linger: seconds that rows wait for others while nobody waits for them.
        send_seconds: the most that one request may take, with its repetitions.
        attempt_seconds: what one attempt may take while the cause of a failure is searched for, longer for many bytes.
        decide: called before the first delivery that somebody asks for, if the destination is not known yet. It must
            call :meth:`use`. Until then nothing is sent.

    Attributes:
        is_held: True until the destination is known.
    """

    def __init__(
        self, backend: Backend, dead_letters: DeadLetters, *, linger: float = 1.0, send_seconds: float = 10.0,
        attempt_seconds: float = 2.0, decide: Callable[[], object] | None = None,
    ) -> None:
        self.backend = backend
        self.is_held = decide is not None
        self._decide = decide
        self._dead_letters = dead_letters
        self._linger = linger
        self._send_seconds = send_seconds
        self._attempt_seconds = attempt_seconds
        self._begin()

    def after_fork(self) -> None:
        """Start afresh, as a forked child must: no threads, no journals, no requests."""
        MEMORY.reset()
        self._begin()

    def _begin(self) -> None:
        self._is_paused = False
        self._dead_letters.after_fork()
        self._lock = threading.Lock()
        self._uploads: Uploads | None = None
        self._sender = Sender(self.backend, self._dead_letters, attempt_seconds=self._attempt_seconds)
        self._breaker = Breaker()
        self._journals = Journals()
        self._schedule = Schedule(self.backend, self._journals, self._breaker)
        self._pool: WorkerPool[Request] = WorkerPool(self, self._lock, "trace-guard-courier", keep=1)
        self._waits = Waits(self._lock, self._pool, self._schedule, self._journals, self._sender, self._breaker)

    @property
    def last_error(self) -> str | None:
        """Why the last request failed, or None if it succeeded."""
        return self._breaker.last_error

    @property
    def is_hopeless(self) -> bool:
        """True if the last request failed for a reason that waiting does not mend: the key is refused, or the disk of
        the backend can't be written."""
        error = self._waits.results.last_error
        return isinstance(error, BackendUnauthorized) or getattr(error, "lasting", False)

    def use(self, backend: Backend) -> None:
        """Deliver to this backend from now on. Nothing was sent before, or nothing has arrived."""
        with self._lock:
            self.is_held = False
            self.backend = self._sender.backend = self._schedule.backend = backend
            if self._uploads is not None and isinstance(backend, TakesAttachments):
                self._uploads.backend = backend
            self._pool.wake(len(self._pool.in_flight) + 1)
        for journal in self.journals():
            self._add_attachments(journal, orphan=journal in self.orphans())

    def _ask(self) -> None:
        """Have the destination decided, as somebody asks for a delivery."""
        if self.is_held and self._decide is not None:
            self._decide()

    @property
    def is_delivered(self) -> bool:
        """True if there is nothing to send."""
        return all(cursor.delivered for cursor in self._journals)

    # Journals

    def add(
        self, journal: Journal, *, first: Iterable[Row] = (), orphan: bool = False, instead_of: Journal | None = None
    ) -> None:
        """Deliver from this journal too, also after :meth:`close`.

        Args:
            first: rows to send before all others of the journal.
            orphan: its process is gone. The journal is closed as soon as it is delivered.
            instead_of: the journal that this process has written to until now. It is closed once it is delivered and
                no open span needs it.
        """
        with self._lock:
            self._pool.resume()
            cursor = self._journals.add(journal, first, orphan=orphan, instead_of=instead_of)
            if orphan or instead_of is not None:
                # Its rows leave with the next delivery that somebody asks for, or after the linger.
                cursor.due = monotonic() + self._linger
                self._pool.wake(len(self._pool.in_flight) + 1)
        self._add_attachments(journal, orphan=orphan)

    def _add_attachments(self, journal: Journal, *, orphan: bool) -> None:
        if journal.attachments is not None and not journal.attachments.empty:
            uploads = self._attachment_uploads()
            if uploads is not None:
                uploads.add(journal, backlog=orphan, linger=self._linger)

    def rows_arrived(self, journal: Journal) -> None:
        """Rows were appended to a journal. They leave after the linger, or with the next delivery."""
        cursor = self._journals.find(journal)
        if cursor is None:
            return
        due = cursor.due
        # A busy job does not fill the memory for the sake of company. If requests fail, their pauses count.
        if due is not None and (self._breaker.failures or not cursor.has_plenty or due <= monotonic()):
            return
        with self._lock:
            due = monotonic() + (0.0 if cursor.has_plenty else self._linger)
            cursor.due = due if cursor.due is None else min(due, cursor.due)
            self._pool.wake(len(self._pool.in_flight) + 1)

    def note_loss(self, journal: Journal) -> None:
        """If rows of a journal are neither in memory nor can be read back, deliveries of the traces that are open in
        it will say so."""
        cursor = self._journals.find(journal)
        if cursor is not None:
            with self._lock:
                cursor.pull()
                for _ in journal.read(cursor.position):
                    pass
                self._journals.note_loss(cursor)

    def journals(self) -> list[Journal]:
        """The journals that rows are delivered from."""
        return [cursor.journal for cursor in self._journals]

    def orphans(self) -> list[Journal]:
        """The journals of dead processes among them."""
        return self._journals.orphans()

    def pending_rows(self, most: int) -> int:
        """How many rows are not delivered. Counting stops at ``most``."""
        unsent = (entry for journal in self.journals() for entry in journal.read(journal.acked))
        return sum(1 for _ in itertools.islice((entry for entry in unsent if entry.kind == Kind.ROW), most))

    @property
    def pending_attachments(self) -> int:
        """How many attachments are not uploaded."""
        return sum(len(journal.attachments.waiting) for journal in self.journals() if journal.attachments is not None)

    def let_go(self, journals: Collection[Journal]) -> None:
        """Stop delivering from these journals and close their files, unless a request with their rows is in flight.
        What is not delivered stays on disk."""
        with self._lock:
            for journal in self._journals.remove(journals):
                self._forget_attachments(journal)
                journal.abandon()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Within this block no request begins."""
        with self._lock:
            self._is_paused = True
        try:
            yield
        finally:
            with self._lock:
                self._is_paused = False
                self._pool.wake()

    def last_call(self, journal: Journal, end: Position) -> None:
        """Deliver this journal up to a position, and the others up to their present end. Rows that are written later
        stay on disk as a whole, so that no trace is delivered in part."""
        with self._lock:
            self._journals.limit(journal, end)

    def _close_finished(self) -> None:
        for journal in self._journals.remove_finished():
            self._forget_attachments(journal)
            with contain("remove a delivered journal"):
                journal.close()

    # Attachments

    @property
    def takes_attachments(self) -> bool:
        """True if the backend takes attachments."""
        return isinstance(self.backend, TakesAttachments)

    def attachments_arrived(self, journal: Journal) -> None:
        """Attachments were spooled beside a journal. Their upload starts at once."""
        uploads = self._attachment_uploads()
        if uploads is not None:
            uploads.add(journal)

    def upload_now(self, attachment: SpooledAttachment) -> str | None:
        """Upload an attachment that can't be spooled, and wait for it. Returns the error, or None."""
        self._ask()
        uploads = self._attachment_uploads()
        return "the backend takes no attachments" if uploads is None else uploads.now(attachment)

    def attachment_lost(self, attachment: SpooledAttachment, error: str) -> None:
        """An attachment can never be delivered. Deliveries of its trace will say so."""
        self._ask()
        uploads = self._attachment_uploads()
        if uploads is not None:
            uploads.refuse(attachment, error)

    def find_attachment(self, key: str) -> Content | None:
        """The content of an attachment that the backend has in this process or on this disk."""
        return self.backend.find_attachment(key) if isinstance(self.backend, TakesAttachments) else None

    def _attachment_uploads(self) -> Uploads | None:
        """Created with the first attachment; None if the backend takes none, or is not known yet."""
        if self.is_held:
            return None
        if self._uploads is None and isinstance(self.backend, TakesAttachments):
            from .uploads import Uploads

            with self._lock:
                if self._uploads is None:
                    self._uploads = Uploads(self.backend, self._dead_letters, self._attachment_settled)
        return self._uploads

    def _attachment_settled(self) -> None:
        """A journal may have waited only for this attachment."""
        with self._lock:
            self._close_finished()
            self._waits.notify()

    def _forget_attachments(self, journal: Journal) -> None:
        if self._uploads is not None:
            self._uploads.forget(journal)

    # Delivering

    def send_soon(self) -> None:
        """Start to send everything, without waiting for it."""
        self._ask()
        with self._lock:
            self._schedule.send_all()
            self._pool.wake(len(self._pool.in_flight) + 1)
        if self._uploads is not None:
            self._uploads.soon()

    def deliver(
        self, journal: Journal, upto: Position, deadline: Deadline, *, roots: Iterable[str] = (),
        notice: Notice | None = None,
    ) -> Delivery:
        """Send everything, and wait until a journal is acknowledged up to a position.

        Args:
            deadline: bounds the wait, not the request, which others may wait for too.
            roots: ids of the traces that the caller waits for. The verdict covers their refused rows and their
                attachments.
            notice: called if the wait takes long.

        Returns:
            The verdict and the seconds that it took. Attachments count: without them a delivery is SPOOLED, or LOST
            if they are only in memory, or REFUSED if one can never be delivered.
        """
        self._ask()
        began, roots = monotonic(), list(roots)
        delivery = self._waits.deliver(journal, upto, deadline, roots, notice)
        if self._uploads is None or delivery.verdict not in (Verdict.DELIVERED, Verdict.REFUSED):
            return delivery
        left, error = self._uploads.wait(journal, roots, deadline)
        delivery = replace(delivery, seconds=monotonic() - began)
        if delivery.verdict is Verdict.REFUSED:
            return delivery
        if left:
            verdict = Verdict.SPOOLED if journal.durable else Verdict.LOST
            what = "an attachment is" if left == 1 else f"{left} attachments are"
            return replace(delivery, verdict=verdict, error=f"{what} not uploaded yet: {error}")
        refusal = self._uploads.refusal(roots)
        if refusal is not None:
            return replace(delivery, verdict=Verdict.REFUSED, error=f"an attachment is missing: {refusal}")
        return delivery

    def drain(self, deadline: Deadline, *, force: bool = False, attachments: Deadline | None = None) -> bool:
        """Send everything from every journal, and every attachment. Returns True if nothing is left.

        It sends nothing if the destination is not known yet.

        Args:
            force: go on although the backend is known to be down.
            attachments: a deadline for attachments, which are then given up earlier if their backend is known to be
                down. By default they are treated as rows are.
        """
        if self.is_held:
            return self.is_delivered
        with self._lock:
            rows = self._waits.drain(deadline, force=force)
        if self._uploads is None:
            return rows
        if attachments is None:
            return self._uploads.drain(deadline, force=force) and rows
        return self._uploads.drain(min(deadline, attachments)) and rows

    def thawed(self) -> None:
        """The process was frozen: requests that were in flight may never be answered."""
        with self._lock:
            self._pool.interrupt()
        if self._uploads is not None:
            self._uploads.thawed()

    def close(self) -> None:
        """Stop the threads after their current requests, and give up the journals, which stay as they are."""
        self._pool.stop()
        if self._uploads is not None:
            self._uploads.close()
        with self._lock:
            self._close_finished()
            for cursor in self._journals:
                if not cursor.requests:
                    cursor.journal.leave_delivery()
                if cursor.orphan:
                    cursor.journal.abandon()
            self._journals.clear()
            self._uploads = None
        self.backend.close()

    # For the pool

    def next_job(self) -> tuple[Request | None, float | None]:
        """The next request; or None, and the seconds until there may be one."""
        if self.is_held or self._is_paused:
            return None, None
        request = None
        try:
            request = self._schedule.next_request()
        except Exception as fault:  # noqa: BLE001 - our own fault costs as much as a backend that is down, not more
            report("take rows from a journal", fault)
            self._waits.results.failures += 1
            self._breaker.failed(f"rows can't be read from the journal: {fault!r}")
            self._waits.notify(failed=True)
        if request is not None and request.batch.full:
            self._pool.wake(len(self._pool.in_flight) + 2)
        if self._schedule.has_moved:
            self._settle()  # a journal may have had no row to send
            self._waits.notify()
        return request, self._schedule.pause()

    def perform(self, request: Request, deadline: Deadline) -> BackendError | None:
        """Send a request."""
        return self._sender.send(request.batch, deadline.capped(self._send_seconds))

    def finish(self, request: Request, error: BackendError | None) -> Callable[[], None]:
        """Record the result of a request."""
        if error is not None:
            if not request.timed_out:
                self._breaker.failed(str(error), getattr(error, "retry_after", None))
        else:
            self._breaker.succeeded()
        self._schedule.finish(request, delivered=error is None)
        self._settle()
        return self._waits.finished(request, error)

    def abandon(self, request: Request) -> None:
        """Send the rows of a request again."""
        self._schedule.finish(request, delivered=False, retry_after=0.0)
        self._settle()
        self._waits.notify()

    def _settle(self) -> None:
        with contain("close delivered journals"):
            self._close_finished()
