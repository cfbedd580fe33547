"""The traces of the local store, found through its index."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends.local import LocalStore
from ..backends.summaries import TraceSummary, summarize
from ..rows import Row
from .filters import TraceFilter
from .source import ListedTrace, TracePage

if TYPE_CHECKING:
    import sqlite3

__all__ = ["PAGE_SIZE", "LocalSource"]

PAGE_SIZE = 50

# The index answers this alone; no document is read but by the free-text search.
_TRACES = """
    SELECT root_span_id, COUNT(*), COUNT(*) - COUNT(ended) AS open, MIN(start) AS began, MAX(ended), COUNT(closed_by)
    FROM rows WHERE {where} GROUP BY root_span_id {having}
    ORDER BY open > 0 DESC, began DESC LIMIT ? OFFSET ?
"""
_ROOT = "SELECT doc FROM rows WHERE root_span_id = ? ORDER BY is_top DESC, start LIMIT 1"
_RUNNING = "SELECT name FROM rows WHERE root_span_id = ? AND ended IS NULL ORDER BY start DESC LIMIT 1"
_OPEN = "SELECT root_span_id FROM rows WHERE ended IS NULL AND root_span_id IS NOT NULL"
_FOUND = "SELECT root_span_id FROM rows WHERE doc LIKE ? ESCAPE '!' OR doc LIKE ? ESCAPE '!'"


class LocalSource:
    """Reads a local store. A store of an older version is brought to the present one.

    Args:
        store: its file need not exist yet.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        store.upgrade()

    @property
    def title(self) -> str:
        return str(self._store.path)

    def page(self, wanted: TraceFilter) -> TracePage:
        where, having, values = _conditions(wanted)
        query = _TRACES.format(where=" AND ".join(where), having=f"HAVING {' AND '.join(having)}" if having else "")

        def read(connection: sqlite3.Connection) -> TracePage:
            found = connection.execute(query, (*values, PAGE_SIZE + 1, (wanted.page - 1) * PAGE_SIZE)).fetchall()
            total = None if wanted.is_set else connection.execute(
                "SELECT COUNT(DISTINCT root_span_id) FROM rows"
            ).fetchone()[0]
            traces = [_listed(connection, *trace) for trace in found[:PAGE_SIZE]]
            return TracePage(traces, total, len(found) > PAGE_SIZE)

        return self._store.read(read, TracePage([], 0, False))

    def projects(self) -> Sequence[str]:
        query = "SELECT DISTINCT project FROM rows WHERE is_top AND project IS NOT NULL ORDER BY 1 LIMIT 200"
        return self._store.read(lambda connection: [str(name) for (name,) in connection.execute(query)], [])

    def rows(self, root_span_id: str) -> list[Row]:
        return self._store.rows(root_span_id)

    def version(self, root_span_id: str | None) -> str:
        def read(connection: sqlite3.Connection) -> str:
            if root_span_id is None:
                # The number is the connection's own, and a store that was replaced has a new connection.
                return f"{connection.execute('PRAGMA data_version').fetchone()} {id(connection)}"
            return str(connection.execute(
                "SELECT COUNT(*), MAX(changed) FROM rows WHERE root_span_id = ?", (root_span_id,)
            ).fetchone())

        return self._store.read(read, "")

    def attachment(self, key: str) -> Path | None:
        return self._store.attachment_path(key)

    def address(self, row: Row) -> str | None:
        return None


def _conditions(wanted: TraceFilter) -> tuple[list[str], list[str], list[Any]]:
    """The conditions on rows and on traces, and their values."""
    where, having = ["root_span_id IS NOT NULL"], []
    values: list[Any] = []
    if wanted.state == "open":
        where.append(f"root_span_id IN ({_OPEN})")
    if wanted.q:
        where.append(f"root_span_id IN ({_FOUND})")
        # Documents are JSON, in which a text may be written with escapes.
        values += [_like(wanted.q), _like(json.dumps(wanted.q)[1:-1])]
    if wanted.state == "error":
        having.append("MAX(is_top AND outcome <> 'ok')")
    elif wanted.state == "closed":
        having.append("COUNT(closed_by)")
    if wanted.project:
        having.append("MAX(is_top AND project = ?)")
        values.append(wanted.project)
    if wanted.name:
        having.append("MAX(is_top AND name LIKE ? ESCAPE '!')")
        values.append(_like(wanted.name))
    earliest = wanted.earliest()
    if earliest is not None:
        having.append("MIN(start) >= ?")
        values.append(earliest)
    return where, having, values


def _like(text: str) -> str:
    escaped = "".join(f"!{letter}" if letter in "!%_" else letter for letter in text)
    return f"%{escaped.encode('utf-8', 'backslashreplace').decode()}%"


def _listed(
    connection: sqlite3.Connection, root_span_id: str, spans: int, open_spans: int, start: float | None,
    end: float | None, forced: int,
) -> ListedTrace:
    (root,) = summarize([json.loads(doc) for (doc,) in connection.execute(_ROOT, (root_span_id,))])
    running = connection.execute(_RUNNING, (root_span_id,)).fetchone() if open_spans else None
    return ListedTrace(
        TraceSummary(
            root_span_id, root.name, root.project, start, None if open_spans else end, open_spans > 0, root.outcome,
            root.error, spans, open_spans,
        ),
        None if running is None else str(running[0]), forced,
    )
