"""The journal of a process that has no directory to write to: it lives and dies with the process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..contain import warn_once
from ..rows import has_ended, is_span_row, started_at
from .base import NewRow
from .format import ENTRY_OVERHEAD, Entry, Kind, Position
from .invocation_record import InvocationRecord
from .open_spans import OpenSpans

if TYPE_CHECKING:
    from .attachments import MemorySpool

__all__ = ["MemoryJournal"]

MEMORY_BYTES = 16 * 1024 * 1024
# What has been delivered is kept for spans that may have to be rebuilt, up to this share.
# Above every segment number of a file, so that positions of spans that began in a file stay in order.
_SEGMENT = 1 << 40


class MemoryJournal:
    """Keeps undelivered rows in memory, at most ``max_bytes`` of them.

    Past that new rows are dropped, but for the ends of spans that have begun: an end costs little, and what has
    no start can't be "in progress".
    """

    durable = False
    lost: Position | None = None

    def __init__(self, header: Mapping[str, Any], spans: OpenSpans, max_bytes: int = MEMORY_BYTES) -> None:
        self.header: Mapping[str, Any] = dict(header)
        self.spans = spans
        self.dropped_rows = 0
        self.handed_over = False
        self.attachments: MemorySpool | None = None
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self.max_bytes = max_bytes
        self._count = 0
        self._acked = Position(_SEGMENT, 0)
        self._mutex = threading.RLock()

    @property
    def end(self) -> Position:
        return Position(_SEGMENT, self._count)

    @property
    def acked(self) -> Position:
        return self._acked

    def make_room_for_attachments(self) -> MemorySpool:
        from .attachments import MemorySpool

        with self._mutex:
            if self.attachments is None:
                self.attachments = MemorySpool()
            return self.attachments

    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position:
        self.spans.begin(record, self.end)
        return self.append(rows)

    def append(self, rows: Sequence[NewRow]) -> Position:
        with self._mutex:
            for new in rows:
                self._count += 1
                row_id = str(new.row.get("id"))
                if self._bytes + len(new.encoded) > self.max_bytes:
                    self._remove_acked()
                dropped = is_span_row(new.row) and self.spans.was_dropped(row_id)
                ends = is_span_row(new.row) and has_ended(new.row)
                if dropped or (self._bytes + len(new.encoded) > self.max_bytes and not ends):
                    self.dropped_rows += 1
                    if is_span_row(new.row) and started_at(new.row) is not None and not self.spans.is_open(row_id):
                        self.spans.drop(row_id)
                    warn_once("memory:full", "undelivered rows fill the %d bytes kept in memory: new ones are "
                              "dropped until deliveries succeed again", self.max_bytes)
                    continue
                self._bytes += len(new.encoded) + ENTRY_OVERHEAD
                self._entries.append(Entry(Kind.ROW, new.flags, 0.0, new.encoded, self.end))
                self.spans.observe(new.row, self.end)
            return self.end

    def append_made(self, make: Callable[[], Sequence[NewRow]]) -> Position:
        with self._mutex:
            return self.append(make())

    def read(self, after: Position) -> Iterator[Entry]:
        with self._mutex:
            return iter([entry for entry in self._entries if entry.end > after])

    def acknowledge(self, position: Position) -> None:
        with self._mutex:
            self._acked = max(self._acked, position)
            self._remove_acked()

    def _remove_acked(self) -> None:
        while self._entries and self._entries[0].end <= self._acked:
            gone = self._entries.popleft()
            self._bytes -= len(gone.payload) + ENTRY_OVERHEAD

    def take_delivery(self) -> bool:
        return True

    def leave_delivery(self) -> None:
        """Nobody else can deliver from another process's memory."""

    def touch(self) -> None:
        """Nobody will read a sign of life from memory."""

    @property
    def finished(self) -> bool:
        return self._acked >= self.end and (self.attachments is None or self.attachments.empty)

    def close(self) -> None:
        """Nothing to close."""

    def abandon(self) -> None:
        """In a forked child: the rows are the parent's to deliver, and a thread that held the lock is not there."""
        self._mutex = threading.RLock()
        self._entries.clear()
        self._acked = self.end
        if self.attachments is not None:
            self.attachments.abandon()
