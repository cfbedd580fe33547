"""Decides which rows go into the next request, and what happens to them after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..contain import contain, is_shortage, report
from ..journal.format import Entry, Flag, Kind
from ..rows import dump
from ..system.clock import monotonic
from .batch import Batch
from .breaker import RETRY_SECONDS
from .lanes import OTHER_PROCESS_PAUSE, BatchSlice, JournalCursor, Request

if TYPE_CHECKING:
    from ..backends.base import Backend
    from .breaker import Breaker
    from .journals import Journals

__all__ = ["Schedule"]

# A request that an invocation waits for carries at most so many bytes of a dead process's backlog.
_BACKLOG_BYTES = 256 * 1024


class Schedule:
    """Puts rows that are due into batches, and moves ``acked`` of their journals over rows that are delivered.

    The rows of a span are sent in order: no two requests in flight carry rows of one span, and when a request fails
    all later rows of its journals are sent again. ``acked`` moves without gaps. Not thread-safe: the courier holds
    its lock.

    Attributes:
        backend: where rows go.
        in_flight: the requests whose result is not known yet.
    """

    def __init__(self, backend: Backend, journals: Journals, breaker: Breaker) -> None:
        self.in_flight: list[Request] = []
        self.backend = backend
        self._journals = journals
        self._breaker = breaker

    def send_all(self) -> None:
        """Make the rows of every journal due now."""
        now = monotonic()
        for cursor in self._journals:
            cursor.due = now if cursor.due is None else min(cursor.due, now)

    def pause(self) -> float | None:
        """Seconds until rows are due; None if that depends on new rows or on a request in flight."""
        due = min((cursor.due for cursor in self._journals if cursor.due is not None), default=None)
        if due is None or (self.in_flight and due <= monotonic()):
            return None
        return max(0.0, max(due, self._breaker.retry_at) - monotonic())

    def next_request(self) -> Request | None:
        """Put the rows that are due into a batch; None if there are none or the breaker holds them back.

        Raises:
            OSError, MemoryError, RuntimeError: nothing could be read, as this machine is short of something.
        """
        now = monotonic()
        if not self._breaker.allows() or not any(
            cursor.due is not None and cursor.due <= now for cursor in self._journals
        ):
            return None
        batch = Batch(self.backend.max_bytes)
        slices: dict[JournalCursor, BatchSlice] = {}
        shortage: Exception | None = None
        # The first rows of all journals go before the entries of any.
        for take in (self._take_first, self._take_entries):
            for cursor in self._journals:
                try:
                    take(cursor, batch, slices)
                    cursor.read_error = None
                except Exception as fault:  # noqa: BLE001 - an unreadable journal must not stop the others
                    report("take rows from a journal", fault)
                    cursor.read_error = f"rows can't be read from the journal: {fault}"
                    cursor.read_failures += 1
                    cursor.due = now + RETRY_SECONDS
                    shortage = fault if is_shortage(fault) else shortage
        for cursor, part in slices.items():
            if cursor.first or cursor.position < cursor.end:
                cursor.due = now if cursor.due is None else min(cursor.due, now)
            if part:
                cursor.requests += 1
            elif not cursor.requests:
                cursor.journal.leave_delivery()
        request = Request(batch, [part for part in slices.values() if part])
        if not request.slices:
            if shortage is not None:
                raise shortage
            return None
        self.in_flight.append(request)
        return request

    def finish(self, request: Request, *, delivered: bool, retry_after: float = RETRY_SECONDS) -> None:
        """Acknowledge the rows of a request, or have them sent again.

        Args:
            delivered: the backend has the rows, or they are kept as dead letters.
            retry_after: seconds until rows that are not delivered are due again.
        """
        self.in_flight.remove(request)
        for part in request.slices:
            cursor = part.cursor
            cursor.requests -= 1
            with contain("record the result of a request"):
                if not delivered:
                    self._send_again(part, retry_after)
                elif not part.resend:
                    cursor.delivered_slices.append(part)
                    _acknowledge(cursor)
                if not cursor.requests:
                    cursor.journal.leave_delivery()

    def _take_first(self, cursor: JournalCursor, batch: Batch, slices: dict[JournalCursor, BatchSlice]) -> None:
        """Begin to deliver from a journal, unless another process does, with the rows that go before all others."""
        journal, now = cursor.journal, monotonic()
        cursor.due = None  # before the journal is read: rows that arrive meanwhile set it again
        if cursor.idle:
            return
        if not cursor.requests:
            cursor.taken_elsewhere = not journal.take_delivery()
            if cursor.taken_elsewhere:
                cursor.due = now + 2 * OTHER_PROCESS_PAUSE
                return
            cursor.position = journal.acked  # another process may have delivered some rows
            cursor.delivered_slices.clear()
            if journal.finished:
                cursor.first.clear()
        part = slices[cursor] = BatchSlice(cursor)
        while cursor.first and batch.take(
            Entry(Kind.ROW, Flag.NONE, 0.0, dump(cursor.first[0]), cursor.position), self._is_busy
        ):
            part.first.append(cursor.first.pop(0))

    def _take_entries(self, cursor: JournalCursor, batch: Batch, slices: dict[JournalCursor, BatchSlice]) -> None:
        """Take the entries of a journal until the batch is full."""
        part = slices.get(cursor)
        backlog = cursor.orphan and not cursor.retired
        if part is None or cursor.first or batch.full or (backlog and batch.size > _BACKLOG_BYTES):
            return
        until, shares_batch = cursor.end, backlog and bool(batch.entries)
        for entry in cursor.journal.read(cursor.position):
            if cursor.limit is not None and entry.end > cursor.limit:
                break
            if (shares_batch and batch.size > _BACKLOG_BYTES) or not batch.take(entry, self._is_busy):
                return
            cursor.position = part.end = entry.end
        # Entries that are damaged, or that a full memory has dropped, are skipped.
        cursor.position = part.end = max(cursor.position, until)
        self._journals.note_loss(cursor)

    def _is_busy(self, row_id: str) -> bool:
        return any(row_id in request.batch.ids for request in self.in_flight)

    def _send_again(self, part: BatchSlice, retry_after: float) -> None:
        """Send a slice again, and all rows behind it: otherwise an older row of a span could arrive last."""
        cursor = part.cursor
        cursor.due = max(monotonic() + retry_after, self._breaker.retry_at)
        cursor.first = part.first + cursor.first
        if part.resend:
            return
        cursor.position = min(cursor.position, part.start)
        cursor.delivered_slices = [other for other in cursor.delivered_slices if other.start < part.start]
        for request in self.in_flight:
            for other in request.slices:
                other.resend = other.resend or (other.cursor is cursor and other.start >= part.start)


def _acknowledge(cursor: JournalCursor) -> None:
    """Move ``acked`` over the slices that are delivered, up to the first gap."""
    acked = cursor.journal.acked
    for part in sorted(cursor.delivered_slices, key=lambda part: part.start):
        if part.start <= acked:
            acked = max(acked, part.end)
    cursor.delivered_slices = [part for part in cursor.delivered_slices if part.end > acked]
    with contain("record in the journal what is delivered"):
        cursor.journal.acknowledge(acked)
