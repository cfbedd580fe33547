"""The journal of a process that can't write to a disk. Its rows are lost with the process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from ..contain import warn_once
from .base import Follower
from .format import ENTRY_OVERHEAD, Entry, Kind, Position
from .invocation_record import InvocationRecord
from .open_spans import OpenSpans
from .row_facts import NewRow

if TYPE_CHECKING:
    from .attachments import Spool

__all__ = ["MemoryJournal"]

MEMORY_BYTES = 16 * 1024 * 1024
# Above every segment number of a file, so that the positions of spans that began in a file stay in order.
_SEGMENT = 1 << 40


class MemoryJournal:
    """Keeps undelivered rows in memory. Thread-safe.

    When it is full, new rows are dropped, except the ends of spans whose start was kept: a span without a start is
    not shown as in progress.

    Attributes:
        max_bytes: the most bytes that are kept.
        dropped_rows: how many rows were dropped.
    """

    durable = False
    lost: Position | None = None

    def __init__(self, spans: OpenSpans, max_bytes: int = MEMORY_BYTES) -> None:
        self.spans = spans
        self.max_bytes = max_bytes
        self.dropped_rows = 0
        self.handed_over = False
        self.attachments: Spool | None = None
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._count = 0
        self._acked = Position(_SEGMENT, 0)
        self._mutex = threading.RLock()

    @property
    def end(self) -> Position:
        return Position(_SEGMENT, self._count)

    @property
    def acked(self) -> Position:
        return self._acked

    def make_room_for_attachments(self) -> Spool:
        from .attachments import Spool

        with self._mutex:
            if self.attachments is None:
                self.attachments = Spool()
            return self.attachments

    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position:
        with self._mutex:
            self.spans.begin(record, self.end)
            return self.append(rows)

    def append(self, rows: Sequence[NewRow]) -> Position:
        with self._mutex:
            for new in rows:
                self._count += 1
                if self._has_room_for(new):
                    self._bytes += new.size
                    self._entries.append(Entry(Kind.ROW, new.flags, 0.0, new.encoded, self.end))
                    self.spans.observe(new, self.end)
                else:
                    self.dropped_rows += 1
                    warn_once("memory:full", "undelivered rows fill the %d bytes kept in memory: new rows are "
                              "dropped until deliveries succeed again", self.max_bytes)
            return self.end

    def append_made(self, make: Callable[[], Sequence[NewRow]]) -> Position:
        with self._mutex:
            return self.append(make())

    def _has_room_for(self, new: NewRow) -> bool:
        fits = self._bytes + len(new.encoded) <= self.max_bytes
        if not new.is_span:
            return fits
        row_id = str(new.row_id)
        if self.spans.was_dropped(row_id):
            return False
        if fits or new.end is not None:
            return True
        if new.start is not None and not self.spans.is_open(row_id):
            self.spans.drop(row_id)
        return False

    def read(self, after: Position) -> Iterator[Entry]:
        with self._mutex:
            return iter([entry for entry in self._entries if entry.end > after])

    def follow(self, follower: Follower) -> None:
        pass  # its rows are in memory as it is

    def acknowledge(self, position: Position) -> None:
        with self._mutex:
            self._acked = max(self._acked, position)
            while self._entries and self._entries[0].end <= self._acked:
                self._bytes -= len(self._entries.popleft().payload) + ENTRY_OVERHEAD

    def take_delivery(self) -> bool:
        return True  # no other process can read this memory

    def leave_delivery(self) -> None:
        pass

    def touch(self) -> None:
        pass

    @property
    def finished(self) -> bool:
        return self._acked >= self.end and (self.attachments is None or self.attachments.empty)

    def close(self) -> None:
        pass

    def abandon(self) -> None:
        """In a forked child: the parent delivers the rows, and a thread of the parent may hold the lock for ever."""
        self._mutex = threading.RLock()
        self._entries.clear()
        self._acked = self.end
        if self.attachments is not None:
            self.attachments.abandon()
