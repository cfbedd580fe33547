"""Spans that were closed too early, as their code came to its end after all: what replaces their rows.

What a watchdog or a signal has said of them was sent at once, and merging can't take it back: that a null clears a
field is not documented. So each span is folded anew from all of its rows in the journal but those, and sent whole, as
a row that replaces the stored one.

That must never take something from the server which only the server has. So a span is rebuilt only if every row of
it that this process has written is still in the journal; of any other a merge says how it really ended. Rows that
another process has written to the very same span can't be known: they are lost with a replacement.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from ..journal.format import Entry, Flag, Kind, Position
from ..journal.journal import NewRow
from ..journal.open_spans import EndedEarly
from ..outcome import ClosedBy, Outcome
from ..rows import OBJECT_KEYS, Row, closing_row, correction, has_ended, is_merge, is_span_row, merge, started_at

__all__ = ["NearMiss"]

# Of feedback: who has given it is a matter of the row that gave it.
_AUDIT = ("_audit_source", "_audit_metadata")
# Which object a row belongs to, but for the project, of which a placeholder may stand in a part of the rows.
_OWNERS = tuple(key for key in OBJECT_KEYS if key not in ("org_id", "project_id"))


class NearMiss:
    """What corrects an invocation that was ended while its code still ran, and then came to its own end.

    Args:
        early: what was closed below its root.
        root: the row that really closes its root.
        outcome, end: of the invocation, for what user code has left open even so.
    """

    def __init__(self, early: EndedEarly, root: Row, outcome: Outcome, end: float) -> None:
        self._early = early
        self._root = root
        self._outcome = outcome
        self._end = end

    def rows(self, entries: Iterable[Entry], oldest: Position | None) -> Sequence[NewRow]:
        """The rows to write, innermost first, the root last.

        Args:
            entries: those of the journal since the invocation began.
            oldest: the position behind which nothing was removed from it; None if the journal is another one.
        """
        identities = {span.row_id: span.identity for span in self._early.spans}
        identities[str(self._root["id"])] = self._root
        told = {row_id: _Told() for row_id in identities}
        for row, entry in _rows_of(entries, identities):
            if not entry.flags & Flag.FORCED:
                told[str(row["id"])].add(row)
        rows = []
        for span in self._early.spans:
            known = told[span.row_id]
            if not has_ended(known.row):
                known.add(closing_row(
                    span.identity, end=max(self._end, span.start), outcome=self._outcome, closed_by=ClosedBy.GUARD,
                    reason="left_open",
                ))
            rows.append(known.corrected(whole=oldest is not None and oldest < span.began))
        known = told[str(self._root["id"])]
        known.add(self._root)
        return [*rows, known.corrected(whole=oldest is not None and oldest <= self._early.since)]


class _Told:
    """What was said of a span, merged.

    Attributes:
        plain: false if something was said of it that can't be merged here.
    """

    def __init__(self) -> None:
        self.row: Row = {}
        self.plain = True

    def add(self, row: Row) -> None:
        if is_span_row(row):
            merge(self.row, row)
        elif is_merge(row):
            merge(self.row, {key: value for key, value in row.items() if key not in _AUDIT})
        else:
            self.plain = False

    def corrected(self, *, whole: bool) -> NewRow:
        """What corrects the span.

        Args:
            whole: nothing was said of it that is not known.
        """
        self.row.pop("_is_merge", None)
        if whole and self.plain and started_at(self.row) is not None:
            return NewRow.of(self.row, Flag.REPLACEMENT)
        return NewRow.of(correction(self.row))


def _rows_of(entries: Iterable[Entry], identities: Mapping[str, Row]) -> Iterator[tuple[Row, Entry]]:
    # Parsing all rows of a long invocation would take much of the time that is left; most are of other spans.
    plain = all(row_id.isascii() and row_id.replace("-", "").isalnum() for row_id in identities)
    needles = [row_id.encode() for row_id in identities] if plain else [b""]
    for entry in entries:
        if entry.kind == Kind.ROW and any(needle in entry.payload for needle in needles):
            row = json.loads(entry.payload)
            identity = identities.get(str(row.get("id")))
            if identity is not None and all(row.get(key) == identity.get(key) for key in _OWNERS):
                yield row, entry
