"""What the other rooms need of a journal."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Protocol

from .format import Entry, Position
from .invocation_record import InvocationRecord
from .open_spans import OpenSpans
from .row_facts import NewRow

if TYPE_CHECKING:
    from .attachments import Spool

__all__ = ["Follower", "Journal", "WritableJournal"]


class Follower(Protocol):
    """Gets what a journal has written, in order."""

    def written(self, start: Position, rows: Sequence[NewRow], end: Position) -> None:
        """Entries between two positions were written, the last of which are these rows."""
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
