"""The journals that a courier delivers from: this process's own, and those of dead processes that it has adopted."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from .lanes import JournalCursor

if TYPE_CHECKING:
    from ..journal.base import Journal
    from ..journal.format import Position
    from ..rows import Row

__all__ = ["Journals"]

# Traces that may have lost rows: so many of them are remembered.
_REMEMBERED = 10_000


class Journals:
    """The cursors of the journals, in the order in which rows are taken from them.

    Not thread-safe: the courier holds its lock, except to iterate and for :meth:`find`.
    """

    def __init__(self) -> None:
        self._cursors: list[JournalCursor] = []
        self._lost_traces: dict[str, None] = {}

    def __iter__(self) -> Iterator[JournalCursor]:
        return iter(self._cursors)  # the list itself never changes

    def add(
        self, journal: Journal, first: Iterable[Row], *, orphan: bool, instead_of: Journal | None
    ) -> JournalCursor:
        """Add a journal; see :meth:`.courier.Courier.add`."""
        cursor = JournalCursor(journal, list(first), orphan=orphan)
        for other in self._cursors:
            other.retired = other.retired or other.journal is instead_of
            other.orphan = other.orphan or other.retired
            if other.retired and instead_of is not None:
                # A new journal on disk begins with the open spans of those before it.
                other.journal.handed_over = other.journal.handed_over or journal.durable
        # A retired journal comes before its successor, which may have the ends of its spans.
        self._cursors = sorted([*self._cursors, cursor], key=lambda other: other.orphan and not other.retired)
        return cursor

    def find(self, journal: Journal) -> JournalCursor | None:
        """The cursor of a journal, or None if it is not delivered from here."""
        for cursor in self._cursors:
            if cursor.journal is journal:
                return cursor
        return None

    def clear(self) -> None:
        """Remove all journals."""
        for cursor in self._cursors:
            cursor.release()
        self._cursors = []

    def orphans(self) -> list[Journal]:
        """The journals of dead processes."""
        return [cursor.journal for cursor in self if cursor.orphan and not cursor.retired]

    def limit(self, journal: Journal, end: Position) -> None:
        """Deliver this journal up to a position, and the others up to their present end."""
        for cursor in self._cursors:
            cursor.stop_at(end if cursor.journal is journal else cursor.journal.end)

    def remove(self, journals: Collection[Journal]) -> list[Journal]:
        """Remove those of the journals that have no request in flight, and return them."""
        removed = [cursor for cursor in self._cursors if cursor.journal in journals and not cursor.requests]
        self._cursors = [cursor for cursor in self._cursors if cursor not in removed]
        for cursor in removed:
            cursor.release()
        return [cursor.journal for cursor in removed]

    def remove_finished(self) -> list[Journal]:
        """Remove the journals that are delivered, that nobody writes to and that no open span needs, and return
        them."""
        own_delivered = all(cursor.delivered for cursor in self._cursors if not cursor.orphan)
        return self.remove([
            cursor.journal for cursor in self._cursors
            if cursor.orphan and cursor.idle and cursor.delivered and cursor.journal.finished
            # The end of a span in a retired journal may be in this process's present one.
            and (own_delivered or cursor.journal.handed_over or not cursor.retired)
        ])

    def note_loss(self, cursor: JournalCursor) -> None:
        """If rows of a journal can't be read back, note the traces that are open in it: any of them may have lost
        some."""
        if cursor.journal.lost == cursor.lost:
            return
        cursor.lost = cursor.journal.lost
        spans = cursor.journal.spans
        self._lost_traces.update(dict.fromkeys(record.root_span_id for record in spans.live()))
        self._lost_traces.update(dict.fromkeys(str(span.identity.get("root_span_id")) for span in spans.all_open()))
        while len(self._lost_traces) > _REMEMBERED:
            del self._lost_traces[next(iter(self._lost_traces))]

    def may_have_lost(self, journal: Journal, upto: Position, roots: Iterable[str]) -> bool:
        """True if rows before a position of a journal, or of one of these traces, may be lost."""
        return (journal.lost is not None and journal.lost < upto) or any(root in self._lost_traces for root in roots)
