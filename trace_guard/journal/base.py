"""What a journal is to those who use it, and a row to be written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..rows import Row, dump
from .format import Entry, Flag, Position
from .invocation_record import InvocationRecord
from .open_spans import OpenSpans

if TYPE_CHECKING:
    from .attachments import Spool

__all__ = ["Journal", "NewRow"]


class NewRow(NamedTuple):
    """A row to be written: as parsed, and as the bytes that are to be kept."""

    row: Row
    encoded: bytes
    flags: Flag = Flag.NONE

    @classmethod
    def of(cls, row: Row, flags: Flag = Flag.NONE) -> NewRow:
        return cls(row, dump(row), flags)


class Journal(Protocol):
    """What the guard and the courier need of a journal, be it in files or in memory."""

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
    def make_room_for_attachments(self) -> Spool: ...
    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position: ...
    def append(self, rows: Sequence[NewRow]) -> Position: ...
    def append_made(self, make: Callable[[], Sequence[NewRow]]) -> Position: ...
    def read(self, after: Position) -> Iterator[Entry]: ...
    def acknowledge(self, position: Position) -> None: ...
    def take_delivery(self) -> bool: ...
    def leave_delivery(self) -> None: ...
    def touch(self) -> None: ...
    def close(self) -> None: ...
    def abandon(self) -> None: ...
