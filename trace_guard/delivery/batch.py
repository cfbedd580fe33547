"""The rows of one request, from one or more journals, folded so that no span occurs twice.

The server gives all rows of a request the same transaction id, so it can't tell which of two rows of a span is later.
Rows of a span are therefore merged here, by the server's own rules, and sent as one. A row that is alone is sent as it
is in the journal.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from ..contain import is_shortage
from ..rows import Row, RowKey, dump, lifecycle, merge, row_key
from .handover import PendingRow

__all__ = ["Batch"]

_MAX_ROWS = 1000


class Batch:
    """Rows of one or more journals, for one request.

    Args:
        max_bytes: the most bytes of rows, unless a single row has more.

    Attributes:
        rows: the rows, in order.
        size: bytes of the rows.
        full: there are more rows than could be added.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.rows: list[PendingRow] = []
        self.size = 0
        self.full = False
        self._by_id: dict[str, list[PendingRow]] = {}
        self._broken: list[tuple[Row, bytes, Exception]] = []

    def take(self, row: PendingRow) -> bool:
        """Add a row. Returns False if it has to wait for another batch."""
        same = self._by_id.get(row.row_id)
        if self.rows and (
            self.size + len(row.encoded) > self.max_bytes or (same is None and len(self._by_id) >= _MAX_ROWS)
        ):
            self.full = True
            return False
        if same is None:
            self._by_id[row.row_id] = [row]
        elif row.verbatim or same[0].verbatim:
            return False  # they can't be folded, and their order matters
        else:
            same.append(row)
        self.rows.append(row)
        self.size += len(row.encoded)
        return True

    def project_names(self) -> set[str]:
        """The names of projects whose ids are not known yet."""
        return {row.project for row in self.rows if row.project is not None}

    def remove(self, project: str) -> list[PendingRow]:
        """Remove and return the rows of a project that the batch has only the name of."""
        removed = [row for row in self.rows if row.project == project]
        self.rows = [row for row in self.rows if row.project != project]
        self._by_id = {}
        for row in self.rows:
            self._by_id.setdefault(row.row_id, []).append(row)
        return removed

    def encode(self, projects: Mapping[str, str]) -> list[bytes]:
        """The encoded rows to send: placeholders are replaced, and there is one merge row for each span.

        Any other row stays as it is, byte for byte, unless it has a placeholder.

        Args:
            projects: the ids of :meth:`project_names`.
        """
        encoded: list[bytes] = []
        for same in self._by_id.values():
            if len(same) == 1 and same[0].is_plain:
                encoded.append(same[0].encoded)
            else:
                encoded += self._folded(same, projects)
        return encoded

    def _folded(self, same: list[PendingRow], projects: Mapping[str, str]) -> list[bytes]:
        spans: dict[RowKey, Row] = {}
        rows: list[Row | bytes] = []
        for pending in same:
            row: Row = {}
            try:
                row = pending.parse()
                _fold(row, pending, projects, spans, rows)
            except Exception as fault:  # noqa: BLE001 - a row that can't be handled must not stop the others
                self._put_aside(row, pending.encoded, fault)
                if row:
                    with contextlib.suppress(Exception):  # its start and end are probably in order
                        _fold(lifecycle(row), pending, projects, spans, rows)
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
    row: Row, pending: PendingRow, projects: Mapping[str, str], spans: dict[RowKey, Row], rows: list[Row | bytes]
) -> None:
    if pending.project is not None:
        row["project_id"] = projects[pending.project]
    if pending.verbatim:
        rows.append(pending.encoded if pending.project is None else dump(row))
        return
    key = row_key(row)
    row["_is_merge"] = True
    folded = spans.get(key)
    if folded is None:
        spans[key] = row
        rows.append(row)
    else:
        folded.update(merge(dict(folded), row))  # merged into a copy, in case of a fault
