"""The rows of one request, from one or more journals, folded so that no span occurs twice.

The server gives all rows of a request the same transaction id, so it can't tell which of two rows of a span is later.
Rows of a span are therefore merged here, by the server's own rules, and sent as one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping

from ..backends.project_ids import is_placeholder, project_name
from ..contain import is_shortage
from ..journal.format import Entry, Flag, Kind
from ..journal.reader import parse_payload
from ..rows import Row, RowKey, dump, is_span_row, lifecycle, merge, row_key

__all__ = ["Batch"]

_MAX_ROWS = 1000


class Batch:
    """Entries of one or more journals, for one request.

    Args:
        max_bytes: the most bytes of rows, unless a single row has more.

    Attributes:
        entries: the rows, parsed, each with its journal entry.
        ids: the ids of the rows. No other batch in flight may contain one of them.
        size: bytes of the rows.
        full: there are more rows than could be added.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.entries: list[tuple[Row, Entry]] = []
        self.ids: set[str] = set()
        self.size = 0
        self.full = False
        self._verbatim: set[str] = set()
        self._broken: list[tuple[Row, bytes, Exception]] = []

    def take(self, entry: Entry, busy: Callable[[str], bool]) -> bool:
        """Add an entry. Returns False if it has to wait for another batch.

        Args:
            busy: whether a request in flight has a row of that id.
        """
        if entry.kind != Kind.ROW:
            return True
        try:
            row = parse_payload(entry.payload)
        except Exception as fault:  # noqa: BLE001 - a broken entry must not stop the others
            self._put_aside({}, entry.payload, fault)
            return True
        row_id = str(row.get("id"))
        too_much = self.entries and (
            self.size + len(entry.payload) > self.max_bytes or len(self.entries) >= _MAX_ROWS
        )
        # A row that is sent verbatim can't be folded with another of its id, and their order matters.
        verbatim = bool(entry.flags & Flag.VERBATIM)
        clash = row_id in self._verbatim or (verbatim and row_id in self.ids)
        if too_much or clash or busy(row_id):
            self.full = True
            return False
        self.entries.append((row, entry))
        self.ids.add(row_id)
        if verbatim:
            self._verbatim.add(row_id)
        self.size += len(entry.payload)
        return True

    def project_names(self) -> set[str]:
        """The names of projects whose ids are not known yet."""
        return {
            project_name(row["project_id"])
            for row, entry in self.entries
            if is_placeholder(row.get("project_id"))
        }

    def fold(self, projects: Mapping[str, str]) -> list[bytes]:
        """The encoded rows to send: placeholders are replaced, and there is one merge row for each span.

        Any other row stays as it is, byte for byte, unless it has a placeholder.

        Args:
            projects: the ids of :meth:`project_names`.
        """
        spans: dict[RowKey, Row] = {}
        rows: list[Row | bytes] = []
        for row, entry in self.entries:
            try:
                _fold(row, entry, projects, spans, rows)
            except Exception as fault:  # noqa: BLE001 - a row that can't be handled must not stop the others
                self._put_aside(row, entry.payload, fault)
                with contextlib.suppress(Exception):  # its start and end are probably in order
                    _fold(lifecycle(row), entry, projects, spans, rows)
        encoded = (row if isinstance(row, bytes) else self._encoded(row) for row in rows)
        return [row for row in encoded if row is not None]

    def _encoded(self, row: Row) -> bytes | None:
        try:
            return dump(row)
        except Exception as fault:  # noqa: BLE001 - as above
            self._put_aside(row, repr(row).encode(), fault)
            return None

    def _put_aside(self, row: Row, encoded: bytes, fault: Exception) -> None:
        if is_shortage(fault):
            raise fault  # the row is not the cause
        self._broken.append((row, encoded, fault))

    def take_broken(self) -> list[tuple[Row, bytes, Exception]]:
        """Remove and return the rows that can't be handled: as parsed, as written, and the fault."""
        broken, self._broken = self._broken, []
        return broken


def _fold(
    row: Row, entry: Entry, projects: Mapping[str, str], spans: dict[RowKey, Row], rows: list[Row | bytes]
) -> None:
    unresolved = is_placeholder(row.get("project_id"))
    if unresolved:
        row["project_id"] = projects[project_name(row["project_id"])]
    if entry.flags & Flag.VERBATIM or not is_span_row(row):
        rows.append(dump(row) if unresolved else entry.payload)
        return
    key = row_key(row)
    row["_is_merge"] = True
    folded = spans.get(key)
    if folded is None:
        spans[key] = row
        rows.append(row)
    else:
        folded.update(merge(dict(folded), row))  # merged into a copy, in case of a fault
