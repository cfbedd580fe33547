"""Takes rows from journals to the backend: at least once, in order for each span, never in anybody's way.

This is the relay of the transactional-outbox pattern. What is under way is decided under one lock; requests
are made outside of it. ``acked`` of a journal only ever moves over rows that the backend has acknowledged
(or refused for good, when they are kept as dead letters), without a gap.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from ..backends.base import Backend, TakesAttachments
from ..contain import contain, is_shortage, report
from ..deadline import Deadline
from ..errors import BackendError, BackendUnauthorized
from ..journal.base import Journal
from ..journal.format import Entry, Flag, Kind, Position
from ..outcome import Delivery, Verdict
from ..rows import Row, dump
from .batch import Batch
from .breaker import Breaker
from .dead_letters import DeadLetters
from .lanes import BatchSlice, JournalCursor, Request
from .sender import Sender

if TYPE_CHECKING:
    from ..journal.spooled import Content, SpooledAttachment
    from .uploads import Uploads

__all__ = ["Courier"]

_IN_FLIGHT = 4
_SEND_SECONDS = 10.0
# How long an invocation waits for a probe of a backend that is known to be down.
_PROBE_SECONDS = 0.25
# How long a request that was under way when the process was frozen may still turn out to have been answered.
_STALE_SECONDS = 0.1
_RETRY_SECONDS = 0.5
# How often, and how long, to look again while another process delivers from the same journals.
_OTHERS_PAUSE = 0.05
_OTHERS_SECONDS = 2.0
# A wait shorter than this that ends without an answer says nothing about the backend.
_TELLING_SECONDS = 0.5
# What of a dead process's backlog may ride in a request that an invocation waits for.
_RIDE_BYTES = 256 * 1024
# Of so many traces it is known that they may have lost rows.
_REMEMBERED = 10_000
_LOSS = "another program has removed or changed files of the journal: rows that had not been delivered are lost"


class Courier:
    """One for each destination of a process. Its threads start when there is something to send.

    Args:
        backend: where rows go.
        dead_letters: where rows go that the backend refuses for good.
        linger: seconds that rows wait for company while nobody waits for them.
    """

    def __init__(self, backend: Backend, dead_letters: DeadLetters, *, linger: float = 1.0) -> None:
        self.backend = backend
        self._dead_letters = dead_letters
        self._linger = linger
        self.after_fork()

    def after_fork(self) -> None:
        """Begin anew, as in a forked child: no threads, no journals, nothing under way."""
        self._dead_letters.after_fork()
        self._uploads: Uploads | None = None
        self._sender = Sender(self.backend, self._dead_letters)
        # Of one lock, so that rows that arrive wake a thread of ours, and not everybody who waits for a delivery.
        lock = threading.Lock()
        self._changed, self._asked = threading.Condition(lock), threading.Condition(lock)
        self._breaker = Breaker()
        self._cursors: list[JournalCursor] = []
        self._in_flight: list[Request] = []
        self._threads: list[threading.Thread] = []
        # Traces that may have lost rows, as those of their journal could not be read back.
        self._lost: dict[str, None] = {}
        self._landings = self._failures = 0
        self._unauthorized = self._lasting = 0
        self._closed = False

    @property
    def last_error(self) -> str | None:
        """Why the last delivery failed, or None if it did not."""
        return self._breaker.last_error

    # What others ask for

    def add(
        self, journal: Journal, *, first: Iterable[Row] = (), orphan: bool = False, instead_of: Journal | None = None
    ) -> None:
        """Deliver from this journal too.

        Args:
            first: rows to be sent before all others of it.
            orphan: its process is gone: close it as soon as it is delivered.
            instead_of: the one that this process has written to until now: closed as soon as nobody will miss it.
        """
        with self._changed:
            cursor = JournalCursor(journal, list(first), orphan=orphan)
            for one in self._cursors:
                one.retired = one.retired or one.journal is instead_of
                one.orphan = one.orphan or one.retired
                if one.retired and instead_of is not None:
                    # One on disk has begun with the spans that are open in those before.
                    one.journal.handed_over = one.journal.handed_over or journal.durable
            self._cursors.append(cursor)
            # A retired one before its successor, which may have the end of what has begun in it.
            self._cursors.sort(key=lambda one: one.orphan and not one.retired)
            if orphan or instead_of is not None:
                # It rides with the first delivery that somebody asks for, else leaves after the linger.
                cursor.due = time.monotonic() + self._linger
                self._wake()
        if journal.attachments is not None and not journal.attachments.empty:
            uploads = self._upload_lane()
            if uploads is not None:
                uploads.add(journal, backlog=orphan, linger=self._linger)

    def rows_arrived(self, journal: Journal) -> None:
        """Rows were appended; they leave after the linger, or with the next delivery."""
        cursor = self._cursor_of(journal)
        if cursor is None or cursor.due is not None:
            return
        with self._changed:
            if cursor.due is None:
                cursor.due = time.monotonic() + self._linger
                self._wake()

    @property
    def takes_attachments(self) -> bool:
        """True if attachments can be delivered from here."""
        return isinstance(self.backend, TakesAttachments)

    def attachments_arrived(self, journal: Journal) -> None:
        """Attachments were put beside a journal; they leave at once."""
        uploads = self._upload_lane()
        if uploads is not None:
            uploads.add(journal)

    def upload_now(self, one: SpooledAttachment) -> str | None:
        """Upload an attachment that can't be kept, and wait for it; why it could not be done, or None."""
        uploads = self._upload_lane()
        return "the backend takes no attachments" if uploads is None else uploads.now(one)

    def attachment_lost(self, one: SpooledAttachment, error: str) -> None:
        """An attachment will never be there: the deliveries of its trace say so."""
        uploads = self._upload_lane()
        if uploads is not None:
            uploads.refuse(one, error)

    def find_attachment(self, key: str) -> Content | None:
        """The content of an attachment that the backend has at hand, in this process or on this disk."""
        return self.backend.find_attachment(key) if isinstance(self.backend, TakesAttachments) else None

    def note_loss(self, journal: Journal) -> None:
        """If rows of a journal can't be read back, the deliveries of the traces that are under way say so."""
        cursor = self._cursor_of(journal)
        if cursor is not None:
            with self._changed:
                self._note_loss(cursor)

    def send_soon(self) -> None:
        """Send all there is without making anybody wait for it."""
        with self._changed:
            self._ask()
            self._wake()
        if self._uploads is not None:
            self._uploads.soon()

    def thawed(self) -> None:
        """The process was frozen: what was under way before may never be answered."""
        with self._changed:
            for request in self._in_flight:
                request.interrupted = True
        if self._uploads is not None:
            self._uploads.thawed()

    def deliver(
        self, journal: Journal, upto: Position, deadline: Deadline, *, roots: Iterable[str] = ()
    ) -> Delivery:
        """Send all there is, and wait until a journal is acknowledged up to a position.

        Args:
            deadline: bounds the wait, not the request, which others may be waiting for too.
            roots: ids of the traces in question, to tell whether any of their rows was refused, and which
                attachments are theirs.

        Returns:
            The verdict, and the seconds that it took. Attachments count: only when the backend has those of the
            traces too, it is DELIVERED; if they are all that is left, it is SPOOLED (LOST, if they are in memory
            only); and if one can never be had, REFUSED.
        """
        began, roots = time.monotonic(), list(roots)
        delivery = self._deliver_rows(journal, upto, deadline, roots)
        if self._uploads is None or delivery.verdict not in (Verdict.DELIVERED, Verdict.REFUSED):
            return delivery
        left, error = self._uploads.wait(journal, roots, deadline)
        delivery = replace(delivery, seconds=time.monotonic() - began)
        if left and delivery.verdict is Verdict.DELIVERED:
            verdict = Verdict.SPOOLED if journal.durable else Verdict.LOST
            what = "an attachment is" if left == 1 else f"{left} attachments are"
            return replace(delivery, verdict=verdict, error=f"{what} yet to be uploaded: {error}")
        refusal = self._uploads.refusal(roots)
        if refusal is not None and delivery.verdict is Verdict.DELIVERED:
            return replace(delivery, verdict=Verdict.REFUSED, error=f"an attachment is missing: {refusal}")
        return delivery

    def _deliver_rows(self, journal: Journal, upto: Position, deadline: Deadline, roots: list[str]) -> Delivery:
        began = time.monotonic()
        with self._changed:
            if journal.acked < upto and self._is_worth_waiting(deadline):
                if self._breaker.is_open:
                    deadline = deadline.capped(_PROBE_SECONDS)
                self._await(journal, upto, deadline, began)
            seconds = time.monotonic() - began
            if (journal.lost is not None and journal.lost < upto) or any(root in self._lost for root in roots):
                return Delivery(Verdict.LOST, seconds=seconds, error=_LOSS)
            if journal.acked < upto:
                verdict = Verdict.SPOOLED if journal.durable else Verdict.LOST
                return Delivery(verdict, seconds=seconds, error=self._why_not(journal))
            refusal = self._sender.refusal(roots)
            return Delivery(Verdict.REFUSED if refusal else Verdict.DELIVERED, seconds=seconds, error=refusal)

    def drain(self, deadline: Deadline, *, force: bool = False, attachments: Deadline | None = None) -> bool:
        """Send everything from every journal, and every attachment; True if nothing is left.

        Args:
            force: go on although the backend is known to be down.
            attachments: until when to wait for attachments, which are given up earlier if the backend is known to
                take none. By default they are waited for as rows are.
        """
        rows = self._drain_rows(deadline, force=force)
        if self._uploads is None:
            return rows
        if attachments is None:
            return self._uploads.drain(deadline, force=force) and rows
        return self._uploads.drain(min(deadline, attachments)) and rows

    def _drain_rows(self, deadline: Deadline, *, force: bool) -> bool:
        unauthorized, lasting = self._unauthorized, self._lasting
        patience = Deadline.after(_OTHERS_SECONDS)
        with self._changed:
            while not deadline.expired:
                pending = [cursor for cursor in self._cursors if not cursor.delivered]
                if not pending:
                    return True
                # Another process delivers from all of them: that is over soon, unless it was stopped over it.
                others = all(cursor.taken_elsewhere or cursor.read_error for cursor in pending)
                patience = patience if others else Deadline.after(_OTHERS_SECONDS)
                if patience.expired:
                    return False
                if (self._breaker.is_open and not force) or self._unauthorized - unauthorized >= 3:
                    return False
                if self._lasting != lasting:
                    return False
                failures = self._failures
                self._breaker.let_through()
                if self._breaker.retry_at > deadline.at:
                    return False  # so long the server wants to be left alone
                self._ask()
                if self._wake():
                    self._changed.wait(min(deadline.remaining, _OTHERS_PAUSE if others else _RETRY_SECONDS))
                else:
                    self._work_inline(deadline)
                if self._failures != failures:
                    self._changed.wait(min(deadline.remaining, _RETRY_SECONDS))
            return not any(not cursor.delivered for cursor in self._cursors)

    def last_call(self, journal: Journal, end: Position) -> None:
        """Deliver from this journal up to here, and from others what they have by now: what comes later stays where it
        is, whole, and not half of it with the backend."""
        with self._changed:
            for cursor in self._cursors:
                cursor.limit = end if cursor.journal is journal else cursor.journal.end

    def close(self) -> None:
        """Stop the threads once what is under way is done, and forget the journals, which stay as they are."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._asked.notify_all()
            threads = list(self._threads)
        if self._uploads is not None:
            self._uploads.close()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(_STALE_SECONDS)
        with self._changed:
            self._close_finished()
            for cursor in self._cursors:
                if not cursor.requests:
                    cursor.journal.leave_delivery()
                if cursor.orphan:
                    cursor.journal.abandon()
            self._cursors = []
        self.backend.close()

    def journals(self) -> list[Journal]:
        """The journals that rows are delivered from."""
        return [cursor.journal for cursor in tuple(self._cursors)]

    def orphans(self) -> list[Journal]:
        """Those of dead processes among them."""
        return [cursor.journal for cursor in tuple(self._cursors) if cursor.orphan and not cursor.retired]

    def let_go(self, journals: Collection[Journal]) -> None:
        """Stop to deliver from these journals, and close their files, unless a request with rows of them is under
        way. What is not delivered stays on disk."""
        with self._changed:
            for cursor in [one for one in self._cursors if one.journal in journals and not one.requests]:
                self._cursors.remove(cursor)
                self._forget(cursor.journal)
                cursor.journal.abandon()

    def _upload_lane(self) -> Uploads | None:
        """Made with the first attachment; None if the backend takes none."""
        if self._uploads is None and isinstance(self.backend, TakesAttachments):
            from .uploads import Uploads

            with self._changed:
                if self._uploads is None:
                    self._uploads = Uploads(self.backend, self._dead_letters, self._attachment_settled)
        return self._uploads

    def _attachment_settled(self) -> None:
        """A journal that was only kept for its attachments may be finished."""
        with self._changed:
            self._close_finished()
            self._changed.notify_all()

    # Under the lock

    def _cursor_of(self, journal: Journal) -> JournalCursor | None:
        return next((cursor for cursor in tuple(self._cursors) if cursor.journal is journal), None)

    def _note_loss(self, cursor: JournalCursor) -> None:
        if cursor.journal.lost != cursor.lost:
            cursor.lost = cursor.journal.lost
            spans = cursor.journal.spans
            self._lost.update(dict.fromkeys(record.root_span_id for record in spans.live()))
            self._lost.update(dict.fromkeys(str(span.identity.get("root_span_id")) for span in spans.all_open()))
            while len(self._lost) > _REMEMBERED:
                del self._lost[next(iter(self._lost))]

    def _why_not(self, journal: Journal) -> str:
        """Why rows of a journal are not delivered yet."""
        cursor = self._cursor_of(journal)
        unreadable = cursor.read_error if cursor is not None else None
        return unreadable or self._breaker.last_error or "no answer in time"

    def _ask(self) -> None:
        now = time.monotonic()
        for cursor in self._cursors:
            cursor.due = now if cursor.due is None else min(cursor.due, now)

    def _is_worth_waiting(self, deadline: Deadline) -> bool:
        """False while the backend is known to be down, or has asked to be left alone for longer than there is."""
        return self._breaker.allows() or (not self._breaker.is_open and self._breaker.retry_at < deadline.at)

    def _await(self, journal: Journal, upto: Position, deadline: Deadline, began: float) -> None:
        landings, failures = self._landings, self._failures
        cursor = self._cursor_of(journal)
        faults = cursor.read_failures if cursor is not None else 0
        self._ask()
        threaded = self._wake()
        while journal.acked < upto and not deadline.expired:
            if self._failures != failures:
                return  # it was tried, and failed: the time that is left is the caller's
            if cursor is not None and cursor.read_failures != faults:
                return
            if not threaded:
                self._work_inline(deadline)
            elif any(request.interrupted for request in self._in_flight):
                self._changed.wait(min(_STALE_SECONDS, deadline.remaining))
                self._give_up_frozen()
            else:
                self._changed.wait(min(deadline.remaining, threading.TIMEOUT_MAX))
        # A probe is known to be one; another wait that was short says nothing about the backend.
        telling = self._breaker.is_open or time.monotonic() - began >= _TELLING_SECONDS
        if journal.acked < upto and self._in_flight and self._landings == landings and telling:
            # To whoever comes next the backend is as good as down.
            self._breaker.failed(f"no answer within {time.monotonic() - began:.2f} s")
            for request in self._in_flight:
                request.timed_out = True

    def _wake(self) -> bool:
        """See to it that a thread looks at what is due; False if none can be had."""
        self._threads = [thread for thread in self._threads if thread.is_alive()]
        if not self._threads and not self._start_thread():
            return False
        self._asked.notify_all()
        return True

    def _start_thread(self) -> bool:
        thread = threading.Thread(target=self._run, name="trace-guard-courier", daemon=True)
        try:
            thread.start()
        except RuntimeError:
            return False  # the interpreter is shutting down, or at a limit: whoever waits does the work
        self._threads.append(thread)
        return True

    def _give_up_frozen(self) -> None:
        for request in [request for request in self._in_flight if request.interrupted]:
            request.abandoned = True
            if request.thread in self._threads:
                self._threads.remove(request.thread)
            self._landed(request, None)
        self._wake()

    def _take_off(self) -> Request | None:
        """Put what is due into a batch, and mark it as under way."""
        now = time.monotonic()
        if not self._breaker.allows() or not any(one.due is not None and one.due <= now for one in self._cursors):
            return None
        batch = Batch(self.backend.max_bytes)
        slices: list[BatchSlice] = []
        shortage: Exception | None = None
        for step in (self._take_first, self._take_entries):
            for cursor in self._cursors:
                try:
                    step(cursor, batch, slices)
                    cursor.read_error = None
                except Exception as fault:  # noqa: BLE001 - a journal that can't be read must not hold up the others
                    report("take rows from a journal", fault)
                    cursor.read_error = f"rows can't be read from the journal: {fault}"
                    cursor.read_failures += 1
                    cursor.due = now + _RETRY_SECONDS
                    self._changed.notify_all()  # nobody is to wait for what can't be read
                    shortage = fault if is_shortage(fault) else shortage
        for part in slices:
            cursor = part.cursor
            if cursor.first or cursor.position < cursor.end:
                cursor.due = now if cursor.due is None else min(cursor.due, now)
            if not cursor.requests and not part:
                cursor.journal.leave_delivery()
        slices = [part for part in slices if part]
        if not slices:
            if shortage is not None:
                self._fail(f"rows can't be read from the journal: {shortage}")
            return None
        for part in slices:
            part.cursor.requests += 1
        request = Request(batch, slices, threading.current_thread())
        self._in_flight.append(request)
        return request

    def _next_request(self) -> Request | None:
        """What is to be sent next. A fault of ours on the way counts as a failed delivery, so that it costs no more
        than a dead backend does."""
        try:
            return self._take_off()
        except Exception as fault:  # noqa: BLE001 - as said
            report("take rows from the journal", fault)
            self._fail(f"rows could not be taken from the journal: {fault!r}")
            return None

    def _fail(self, error: str) -> None:
        self._failures += 1
        self._breaker.failed(error)
        self._changed.notify_all()

    def _take_first(self, cursor: JournalCursor, batch: Batch, slices: list[BatchSlice]) -> None:
        """Begin to deliver from a journal, unless another process does, with the rows that go ahead of all others."""
        journal, now = cursor.journal, time.monotonic()
        cursor.due = None  # before looking: rows that arrive meanwhile set it again
        if cursor.idle:
            return
        if not cursor.requests:
            acked = journal.acked
            cursor.taken_elsewhere = not journal.take_delivery()
            if cursor.taken_elsewhere:
                cursor.due = now + 2 * _OTHERS_PAUSE
                return
            cursor.position = journal.acked
            cursor.delivered_slices.clear()
            if journal.acked > acked:
                self._changed.notify_all()  # another process has delivered what somebody here may be waiting for
            if journal.finished:
                cursor.first.clear()
        part = BatchSlice(cursor)
        slices.append(part)
        while cursor.first and batch.take(
            Entry(Kind.ROW, Flag.NONE, 0.0, dump(cursor.first[0]), cursor.position), self._is_busy
        ):
            part.first.append(cursor.first.pop(0))

    def _take_entries(self, cursor: JournalCursor, batch: Batch, slices: list[BatchSlice]) -> None:
        part = next((part for part in slices if part.cursor is cursor), None)
        backlog = cursor.orphan and not cursor.retired
        if part is None or cursor.first or batch.full or (backlog and batch.size > _RIDE_BYTES):
            return
        until, riding = cursor.end, backlog and bool(batch.entries)
        for entry in cursor.journal.read(cursor.position):
            if cursor.limit is not None and entry.end > cursor.limit:
                break
            if (riding and batch.size > _RIDE_BYTES) or not batch.take(entry, self._is_busy):
                return
            cursor.position = part.end = entry.end
        # What can't be read, as it was damaged, or dropped from a full memory, is passed over.
        cursor.position = part.end = max(cursor.position, until)
        self._note_loss(cursor)

    def _is_busy(self, row_id: str) -> bool:
        return any(row_id in request.batch.ids for request in self._in_flight)

    def _landed(self, request: Request, error: BackendError | None) -> None:
        """Book what came of a request; one that was abandoned says nothing about the backend."""
        self._in_flight.remove(request)
        if not request.abandoned:
            self._book(request, error)
        for part in request.slices:
            part.cursor.requests -= 1
            with contain("note what came of a request"):
                if request.abandoned or error is not None:
                    self._send_again(part, 0.0 if request.abandoned else _RETRY_SECONDS)
                elif not part.resend:
                    part.cursor.delivered_slices.append(part)
                    self._acknowledge(part.cursor)
                if not part.cursor.requests:
                    part.cursor.journal.leave_delivery()
        with contain("close delivered journals"):
            self._close_finished()
        self._changed.notify_all()
        self._asked.notify_all()

    def _send_again(self, part: BatchSlice, pause: float) -> None:
        """A part has failed. All that comes behind it is sent again as well: the backend doesn't mind, and if it
        were not, an older row could land last."""
        cursor = part.cursor
        cursor.due = max(time.monotonic() + pause, self._breaker.retry_at)
        cursor.first = part.first + cursor.first
        if part.resend:
            return
        cursor.position = min(cursor.position, part.start)
        cursor.delivered_slices = [one for one in cursor.delivered_slices if one.start < part.start]
        for request in self._in_flight:
            for one in request.slices:
                one.resend = one.resend or (one.cursor is cursor and one.start >= part.start)

    def _close_finished(self) -> None:
        """Close the journals that nobody writes to and nobody will miss."""
        settled = all(cursor.delivered for cursor in self._cursors if not cursor.orphan)
        for cursor in [cursor for cursor in self._cursors if cursor.orphan and cursor.idle and cursor.delivered]:
            # The end of a span in a retired one may stand in that which this process writes to now.
            if cursor.journal.finished and (settled or cursor.journal.handed_over or not cursor.retired):
                self._cursors.remove(cursor)
                self._forget(cursor.journal)
                with contain("remove a delivered journal"):
                    cursor.journal.close()

    def _forget(self, journal: Journal) -> None:
        if self._uploads is not None:
            self._uploads.forget(journal)

    def _book(self, request: Request, error: BackendError | None) -> None:
        if not request.batch.entries and error is None:
            return  # nothing was sent, which says nothing about the backend
        self._landings += 1
        if error is None:
            self._breaker.succeeded()
            return
        self._failures += 1
        self._unauthorized += isinstance(error, BackendUnauthorized)
        self._lasting += getattr(error, "lasting", False)
        if not request.timed_out:
            self._breaker.failed(str(error), getattr(error, "retry_after", None))

    @staticmethod
    def _acknowledge(cursor: JournalCursor) -> None:
        """Move ``acked`` over the slices that are done, without a gap."""
        acked = cursor.journal.acked
        for part in sorted(cursor.delivered_slices, key=lambda part: part.start):
            if part.start <= acked:
                acked = max(acked, part.end)
        cursor.delivered_slices = [part for part in cursor.delivered_slices if part.end > acked]
        with contain("note in the journal how far delivery has come"):
            cursor.journal.acknowledge(acked)

    def _pause(self) -> float | None:
        """Seconds until something is due; None to wait for somebody to ask, or for a request to land."""
        due = min((cursor.due for cursor in self._cursors if cursor.due is not None), default=None)
        if due is None or (self._in_flight and due <= time.monotonic()):
            return None
        return max(0.0, max(due, self._breaker.retry_at) - time.monotonic())

    # Outside the lock

    def _run(self) -> None:
        """A thread's life: take a batch, send it, book it."""
        while True:
            with self._changed:
                if self._closed or threading.current_thread() not in self._threads:
                    return
                request = self._next_request()
                if request is None:
                    self._asked.wait(self._pause())
                    continue
                if request.batch.full and len(self._threads) < _IN_FLIGHT:
                    self._start_thread()
            self._fly(request, Deadline.after(_SEND_SECONDS))

    def _work_inline(self, deadline: Deadline) -> None:
        """Do a thread's work in the caller's: there are no new threads at the interpreter's exit, or at a limit."""
        failures = self._failures
        request = self._next_request()
        if request is None:
            if self._failures == failures:
                self._changed.wait(min(deadline.remaining, self._pause() or _STALE_SECONDS))
            return
        self._changed.release()
        try:
            self._fly(request, deadline.capped(_SEND_SECONDS))
        finally:
            self._changed.acquire()

    def _fly(self, request: Request, deadline: Deadline) -> None:
        error: BackendError | None = BackendError("the request was broken off")
        try:
            error = self._sender.send(request.batch, deadline)
        finally:
            with self._changed:
                if not request.abandoned:
                    self._landed(request, error)
