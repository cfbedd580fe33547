"""What the other rooms need of a journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..rows import Row, dump
from .format import Entry, Flag, Position
from .invocation_record import InvocationRecord
from .open_spans import OpenSpans

if TYPE_CHECKING:
    from .attachments import Spool

__all__ = ["Follower", "Journal", "NewRow", "WritableJournal"]


class NewRow(NamedTuple):
    """A row to write: as parsed, and as the bytes that go into the journal."""

    row: Row
    encoded: bytes
    flags: Flag = Flag.NONE

    @classmethod
    def of(cls, row: Row, flags: Flag = Flag.NONE) -> NewRow:
        return cls(row, dump(row), flags)


class Follower(Protocol):
    """Gets what a journal has written, in order."""

    def written(self, start: Position, rows: Sequence[tuple[NewRow, Position]], end: Position) -> None:
        """Entries between two positions were written, among them these rows, each with the position behind it."""
        ...


class Journal(Protocol):
    """A journal that rows are delivered from.

    Attributes:
        durable: True if it outlives the process.
        spans: its open spans.
        handed_over: True once a later journal of this process has the identities of all spans that are open.
        lost: the first position whose entries can't be read back; None if there is none.
    """

    durable: bool
    spans: OpenSpans
    handed_over: bool
    lost: Position | None

    @property
    def finished(self) -> bool: ...
    @property
    def end(self) -> Position: ...
    @property
    def acked(self) -> Position: ...
    @property
    def attachments(self) -> Spool | None: ...
    def read(self, after: Position) -> Iterator[Entry]: ...
    def follow(self, follower: Follower) -> None: ...
    def acknowledge(self, position: Position) -> None: ...
    def take_delivery(self) -> bool: ...
    def leave_delivery(self) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...


class WritableJournal(Journal, Protocol):
    """The journal of this process, in files or in memory."""

    def make_room_for_attachments(self) -> Spool: ...
    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position: ...
    def append(self, rows: Sequence[NewRow]) -> Position: ...
    def append_made(self, make: Callable[[], Sequence[NewRow]]) -> Position: ...
    def touch(self) -> None: ...
