"""Delivers from the journal of a process that is still alive: an extension or a supervisor helps it out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .files import ATTACHMENTS
from .format import Entry, Position
from .open_spans import OpenSpans
from .owned import has_directory
from .progress import DeliveryProgress
from .reader import read_entries, read_header

if TYPE_CHECKING:
    from .attachments import FileSpool
    from .base import Follower

__all__ = ["BorrowedJournal"]


class BorrowedJournal:
    """The entries that another process had written when this object was made.

    Only the owner writes rows and removes segments. Whoever holds ``courier.lock`` moves the acknowledged position.

    Attributes:
        end: the position up to which entries are delivered.

    Raises:
        JournalDamaged: it is not a journal, or has a newer format.
    """

    durable = True
    handed_over = False
    finished = False
    lost: Position | None = None

    def __init__(self, path: Path) -> None:
        read_header(path)
        self.path = path
        self.spans = OpenSpans()
        self._progress = DeliveryProgress(path)
        self.end = self.acked
        for entry in read_entries(path, self.acked):
            self.end = entry.end
        self.attachments: FileSpool | None = None
        if has_directory(path / ATTACHMENTS):
            from .attachments import FileSpool

            self.attachments = FileSpool(path, 0, lambda: 0)  # no room: only the owner adds attachments

    @property
    def acked(self) -> Position:
        return self._progress.acked

    def read(self, after: Position) -> Iterator[Entry]:
        return read_entries(self.path, after, self.end)

    def follow(self, follower: Follower) -> None:
        pass  # another process writes

    def take_delivery(self) -> bool:
        taken = self._progress.take()
        if taken:
            self._progress.acked = max(self.acked, self._progress.saved())
        # Checked last: its owner, who needs no lock for that, may remove it at any moment once all is delivered.
        if not self.path.exists():
            self._progress.acked = self.end
            return True
        return taken

    def leave_delivery(self) -> None:
        self._progress.release()

    def acknowledge(self, position: Position) -> None:
        if position > self.acked:
            self._progress.acked = position
            self._progress.save()

    def close(self) -> None:
        self.abandon()

    def abandon(self) -> None:
        if self.attachments is not None:
            self.attachments.abandon()
        self._progress.release()
