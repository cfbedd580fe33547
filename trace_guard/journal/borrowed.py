"""Another process's journal, read while that process lives: to deliver what it could not."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import JournalError
from ..open_spans import InvocationRecord, OpenSpans
from .format import Entry, Position, encode_acked
from .journal import NewRow
from .locks import FileLock
from .reader import read_acked, read_entries, read_header

__all__ = ["BorrowedJournal"]


class BorrowedJournal:
    """Reads, and moves ``acked`` while it holds ``courier.lock``. Writing rows and removing segments is its
    owner's alone.

    Raises:
        JournalDamaged: it is no journal, or of a newer format.
    """

    durable = True
    handed_over = False
    finished = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Mapping[str, Any] = read_header(path)
        self.spans = OpenSpans()
        self._courier_lock = FileLock(path / "courier.lock")
        self._acked = read_acked(path)
        self._end = self._acked
        for entry in read_entries(path, self._acked):
            self._end = entry.end

    @property
    def end(self) -> Position:
        """The position behind the last entry that was there when it was opened."""
        return self._end

    @property
    def acked(self) -> Position:
        return self._acked

    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position:
        raise JournalError(f"{self.path} belongs to another process, which alone writes to it")

    def append(self, rows: Sequence[NewRow]) -> Position:
        raise JournalError(f"{self.path} belongs to another process, which alone writes to it")

    def read(self, after: Position) -> Iterator[Entry]:
        return read_entries(self.path, after, self._end)

    def take_delivery(self) -> bool:
        if not self.path.exists() or not self._courier_lock.acquire():
            return False
        self._acked = max(self._acked, read_acked(self.path))
        return True

    def leave_delivery(self) -> None:
        self._courier_lock.release()

    def acknowledge(self, position: Position) -> None:
        if position > self._acked:
            self._acked = position
            descriptor = os.open(self.path / "acked", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.pwrite(descriptor, encode_acked(position), 0)
            finally:
                os.close(descriptor)

    def touch(self) -> None:
        """A sign of life is the owner's to give."""

    def close(self) -> None:
        self._courier_lock.release()

    def abandon(self) -> None:
        self._courier_lock.release()
