"""The tables of the local store, version 2, and how an older file becomes one.

One table ``rows`` has one record for each row. ``doc`` is the merged row as JSON. The other columns are read from it,
so that traces are found without parsing documents; one index holds them all.
"""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

from ..rows import Row
from .summaries import closed_by_of, end_of, is_top, name_of, outcome_of, project_of, root_id_of, start_of

if TYPE_CHECKING:
    import sqlite3

__all__ = ["SCHEMA_VERSION", "UPSERT", "column", "columns_of", "make_schema"]

SCHEMA_VERSION = 2

# In the order of columns_of(). Times are in seconds since the epoch; ``changed`` is when the row was last written.
_COLUMNS = ("root_span_id", "start", "ended", "changed", "project", "outcome", "closed_by", "is_top", "name")
_TYPES = ("TEXT", "REAL", "REAL", "REAL", "TEXT", "TEXT", "TEXT", "INTEGER", "TEXT")

UPSERT = (
    f"INSERT INTO rows (key, {', '.join(_COLUMNS)}, doc) VALUES (?{', ?' * (len(_COLUMNS) + 1)}) ON CONFLICT (key) DO "
    f"UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in (*_COLUMNS, 'doc'))}"
)
_TABLE = (
    "CREATE TABLE rows (key TEXT PRIMARY KEY, "
    f"{', '.join(f'{name} {kind}' for name, kind in zip(_COLUMNS, _TYPES, strict=True))}, doc TEXT NOT NULL)"
)
_INDEXES = (
    f"CREATE INDEX facts ON rows ({', '.join(_COLUMNS)})",
    "CREATE INDEX open_spans ON rows (root_span_id) WHERE ended IS NULL AND root_span_id IS NOT NULL",
)


def make_schema(connection: sqlite3.Connection, version: int) -> None:
    """Create the tables in an empty file, or bring those of an older version to this one. Call it in a transaction.

    Args:
        version: the file's version; 0 for an empty file.
    """
    if version == 0:
        connection.execute(_TABLE)
    else:
        _upgrade(connection)
    for statement in _INDEXES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _upgrade(connection: sqlite3.Connection) -> None:
    connection.execute("DROP INDEX IF EXISTS traces")
    connection.execute("ALTER TABLE rows RENAME TO older")
    connection.execute(_TABLE)
    for key, doc in connection.execute("SELECT key, doc FROM older ORDER BY rowid"):
        connection.execute(UPSERT, (key, *columns_of(json.loads(doc)), doc))
    connection.execute("DROP TABLE older")


def columns_of(row: Row) -> tuple[Any, ...]:
    """The values of the columns between ``key`` and ``doc``. Those of a row that is not a span are mostly NULL."""
    root = root_id_of(row)
    if root is None:
        return None, start_of(row), None, time.time(), column(project_of(row)), None, None, 0, None
    return (
        column(root), start_of(row), end_of(row), time.time(), column(project_of(row)), column(outcome_of(row)),
        column(closed_by_of(row)), int(is_top(row)), column(name_of(row)),
    )


def column(value: str | None) -> str | None:
    """A text as SQLite can hold it: JSON may contain lone surrogates, SQLite's text may not."""
    return None if value is None else value.encode("utf-8", "backslashreplace").decode()
