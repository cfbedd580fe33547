"""Reads spans from the local store, and writes closing rows to it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ..backends.local import LocalStore
from ..deadline import Deadline
from ..errors import SettingsError
from ..rows import Row, dump
from .source import LogObject, Window, created_at

if TYPE_CHECKING:
    import sqlite3

__all__ = ["LocalSource"]

_PAGE_ROWS = 1000
_SUSPECTS = (
    "SELECT rowid, doc FROM rows WHERE root_span_id IS NOT NULL AND project = ? AND rowid > ? AND ("
    "json_extract(doc, '$.metrics.end') IS NULL OR (json_extract(doc, '$.metadata.trace_guard.closed_by') = 'reaper' "
    "AND json_extract(doc, '$.metrics.end') != json_extract(doc, '$.metadata.trace_guard.reaped_end'))"
    ") ORDER BY rowid LIMIT ?"
)


class LocalSource:
    """The traces in a local store.

    Args:
        projects: names; all projects if there are none.
    """

    def __init__(self, store: LocalStore, projects: Sequence[str] = ()) -> None:
        self._store = store
        self._projects = projects

    def objects(self) -> list[LogObject]:
        """The projects to search.

        Raises:
            SettingsError: there is no such project in the store.
        """
        def stored(connection: sqlite3.Connection) -> list[str]:
            found = connection.execute("SELECT DISTINCT project FROM rows WHERE project IS NOT NULL ORDER BY 1")
            return [str(name) for (name,) in found]

        none: list[str] = []
        known = self._store.read(stored, none)
        for name in self._projects:
            if name not in known:
                raise SettingsError(f"there is no project {name!r} in {self._store.path}; it has: "
                                    f"{', '.join(known) or 'none'}")
        return [LogObject("project_logs", name, name) for name in self._projects or known]

    def suspects(self, where: LogObject, window: Window) -> Iterator[list[Row]]:
        last = 0
        while True:
            found = self._rows(_SUSPECTS, (where.id, last, _PAGE_ROWS))
            if not found:
                return
            last = found[-1][0]
            page = [row for _, row in found if window.start <= created_at(row) < window.end]
            if page:
                yield page

    def spans(self, where: LogObject, roots: Sequence[str]) -> Iterator[Row]:
        for root in roots:
            query = "SELECT rowid, doc FROM rows WHERE root_span_id = ? AND project = ?"
            yield from (row for _, row in self._rows(query, (root, where.id)))

    def logged(self, where: LogObject, roots: Sequence[str]) -> set[str]:
        return {
            str(row["span_id"]) for root in roots for row in self._store.rows(root) if row.get("output") is not None
        }

    def first_matching(self, where: LogObject, roots: Sequence[str], window: Window) -> dict[str, str] | None:
        return None

    def send(self, rows: Sequence[Row], deadline: Deadline) -> None:
        self._store.send([dump(row) for row in rows], deadline)

    def close(self) -> None:
        self._store.close()

    def _rows(self, query: str, parameters: Sequence[Any]) -> list[tuple[int, Row]]:
        def read(connection: sqlite3.Connection) -> list[tuple[int, Row]]:
            found = connection.execute(query, parameters).fetchall()
            return [(number, _with_guard(json.loads(doc))) for number, doc in found]

        return self._store.read(read, [])


def _with_guard(row: Row) -> Row:
    metadata = row.get("metadata")
    return {**row, "trace_guard": metadata.get("trace_guard") if isinstance(metadata, dict) else None}
