"""Decides which rows go into the next request, and what happens to them after it."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from ..contain import contain, is_shortage, report
from ..journal.row_facts import RowFacts
from ..rows import dump
from ..system.clock import monotonic
from .batch import Batch
from .breaker import RETRY_SECONDS
from .handover import MEMORY, PendingRow
from .lanes import OTHER_PROCESS_PAUSE, JournalCursor, Request

if TYPE_CHECKING:
    from ..backends.base import Backend
    from .breaker import Breaker
    from .journals import Journals

__all__ = ["Schedule"]

# A request that an invocation waits for carries at most so many bytes of a dead process's backlog.
_BACKLOG_BYTES = 256 * 1024


class Schedule:
    """Puts rows that are due into batches, and moves ``acked`` of their journals over rows that are delivered.

    The rows of a trace are sent in order: no two requests in flight carry rows of one trace. A request that fails has
    its own rows sent again, and no others. ``acked`` moves without gaps. Not thread-safe: the courier holds its lock.

    Attributes:
        backend: where rows go.
        in_flight: the requests whose result is not known yet.
        has_moved: the last call of :meth:`next_request` has read a journal, or moved on in it without a request.
    """

    def __init__(self, backend: Backend, journals: Journals, breaker: Breaker) -> None:
        self.in_flight: list[Request] = []
        self.backend = backend
        self.has_moved = False
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
        now, self.has_moved = monotonic(), False
        if not self._breaker.allows() or (self._breaker.is_open and self.in_flight):
            return None  # a backend that is down gets one probe at a time
        if not any(cursor.due is not None and cursor.due <= now for cursor in self._journals):
            return None
        request = Request(Batch(self.backend.max_bytes))
        busy: set[str] = set().union(*(other.traces for other in self.in_flight))
        begun: list[JournalCursor] = []
        shortage: Exception | None = None
        # The first rows of all journals go before the others of any.
        for take in (self._take_first, self._take_rows):
            for cursor in tuple(begun) or self._journals:
                try:
                    if take(cursor, request, busy):
                        begun.append(cursor)
                    cursor.read_error = None
                except Exception as fault:  # noqa: BLE001 - an unreadable journal must not stop the others
                    report("take rows from a journal", fault)
                    cursor.read_error = f"rows can't be read from the journal: {fault}"
                    cursor.read_failures += 1
                    cursor.due = now + RETRY_SECONDS
                    self.has_moved = True
                    shortage = fault if is_shortage(fault) else shortage
            if not begun:
                break
        request.board()
        for cursor in begun:
            if cursor not in request.cursors and not cursor.requests:
                cursor.journal.leave_delivery()
        if not request.batch.rows:
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
        for lane in request.lanes:
            lane.cursor.landed(lane, delivered=delivered)
        if not delivered:
            for cursor, row in reversed(request.first):
                cursor.first.insert(0, row)
        for cursor in request.cursors:
            cursor.requests -= 1
            if delivered:
                cursor.pull()
                cursor.acknowledge()
            else:
                cursor.due = max(monotonic() + retry_after, self._breaker.retry_at)
            if not cursor.requests:
                with contain("leave a journal to other processes"):
                    cursor.journal.leave_delivery()

    def _take_first(self, cursor: JournalCursor, request: Request, busy: Collection[str]) -> bool:
        """Begin to deliver from a journal, with the rows that go before all others. Returns False if there is nothing
        to deliver, or if another process does."""
        journal, now = cursor.journal, monotonic()
        cursor.due = None  # before the journal is read: rows that arrive meanwhile set it again
        if cursor.idle:
            return False
        if not cursor.requests:
            cursor.taken_elsewhere = not journal.take_delivery()
            if cursor.taken_elsewhere:
                cursor.due = now + 2 * OTHER_PROCESS_PAUSE
                return False
            cursor.skip_delivered()
            if journal.finished:
                cursor.first.clear()
        while cursor.first:
            row = PendingRow(RowFacts(cursor.first[0]), dump(cursor.first[0]), 0, cursor.position)
            if row.trace in busy or not request.batch.take(row):
                break
            request.first.append((cursor, cursor.first.pop(0)))
        return True

    def _take_rows(self, cursor: JournalCursor, request: Request, busy: Collection[str]) -> bool:
        """Take rows of a journal until the batch is full. Returns False, as delivery has begun already."""
        batch, backlog = request.batch, cursor.orphan and not cursor.retired
        most_bytes = _BACKLOG_BYTES if backlog and batch.rows else batch.max_bytes
        is_all = cursor.pull()
        while not cursor.first:
            cursor.take(request, busy, most_bytes)
            if is_all or batch.full or batch.size > most_bytes or (MEMORY.is_full and (batch.rows or cursor.waiting)):
                break
            self.has_moved = True
            cursor.read()
            self._journals.note_loss(cursor)
            is_all = cursor.pull()
        if cursor.first or cursor.waiting or not is_all:
            cursor.due = monotonic() if cursor.due is None else min(cursor.due, monotonic())
        if not cursor.requests and cursor.acknowledge():
            self.has_moved = True
        return False
