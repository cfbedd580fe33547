"""Another process's journal, read while that process lives: to deliver what it could not."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import JournalError
from .base import NewRow
from .files import ATTACHMENTS
from .format import Entry, Position, encode_acked
from .invocation_record import InvocationRecord
from .locks import FileLock
from .open_spans import OpenSpans
from .owned import UnsafeFile, has_directory, open_file
from .reader import read_acked, read_entries, read_header

if TYPE_CHECKING:
    from .attachments import FileSpool

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
    lost: Position | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Mapping[str, Any] = read_header(path)
        self.spans = OpenSpans()
        self._courier_lock = FileLock(path / "courier.lock")
        self._acked = read_acked(path)
        self._end = self._acked
        for entry in read_entries(path, self._acked):
            self._end = entry.end
        self.attachments: FileSpool | None = None
        if has_directory(path / ATTACHMENTS):
            from .attachments import FileSpool

            # No room for new ones, which are its owner's to keep.
            self.attachments = FileSpool(path, 0, lambda: 0)

    @property
    def end(self) -> Position:
        """The position behind the last entry that was there when it was opened."""
        return self._end

    @property
    def acked(self) -> Position:
        return self._acked

    def make_room_for_attachments(self) -> FileSpool:
        raise JournalError(f"{self.path} belongs to another process, which alone writes to it")

    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position:
        raise JournalError(f"{self.path} belongs to another process, which alone writes to it")

    def append(self, rows: Sequence[NewRow]) -> Position:
        raise JournalError(f"{self.path} belongs to another process, which alone writes to it")

    def append_made(self, make: Callable[[], Sequence[NewRow]]) -> Position:
        raise JournalError(f"{self.path} belongs to another process, which alone writes to it")

    def read(self, after: Position) -> Iterator[Entry]:
        return read_entries(self.path, after, self._end)

    def take_delivery(self) -> bool:
        try:
            if self._courier_lock.acquire():
                self._acked = max(self._acked, read_acked(self.path))
        except UnsafeFile:
            return True  # somebody has replaced it: nobody else can hold it
        except FileNotFoundError:
            pass
        # Looked for last of all, as its owner, who does not ask for this lock, may remove it at any moment before.
        if not self.path.exists():
            self._acked = self._end  # then all of it is delivered
            return True
        return self._courier_lock.held

    def leave_delivery(self) -> None:
        self._courier_lock.release()

    def acknowledge(self, position: Position) -> None:
        if position > self._acked:
            self._acked = position
            # Somebody has removed the files, or the disk is full: then it is sent again, which changes nothing.
            with contextlib.suppress(OSError):
                descriptor = open_file(self.path / "acked", os.O_WRONLY | os.O_CREAT)
                try:
                    os.pwrite(descriptor, encode_acked(position), 0)
                finally:
                    os.close(descriptor)

    def touch(self) -> None:
        """A sign of life is the owner's to give."""

    def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        if self.attachments is not None:
            self.attachments.abandon()
        self._courier_lock.release()
