"""Stores rows as Braintrust's public documentation describes."""

from __future__ import annotations

import datetime
import json
import re
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..rows import Row, merge, number, row_key, visible

if TYPE_CHECKING:
    import sqlite3

__all__ = ["RowStore", "RowsRefused", "StoredRow", "created_at"]

T = TypeVar("T")

_OWNERS = ("project_id", "experiment_id", "dataset_id", "prompt_session_id")
# The most special owner: a row of an experiment may name its project, too.
_OBJECTS = ("experiment_id", "dataset_id", "prompt_session_id", "project_id")
_SCHEMA = """
CREATE TABLE spans (
  n INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, object TEXT, root_span_id TEXT, created REAL, arrived REAL,
  xact INTEGER, is_span INTEGER, ended REAL, doc TEXT NOT NULL
);
CREATE INDEX by_time ON spans (object, created);
CREATE INDEX by_trace ON spans (root_span_id);
"""
_UPSERT = (
    "INSERT INTO spans (key, object, root_span_id, created, arrived, xact, is_span, ended, doc) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT (key) DO UPDATE SET root_span_id = excluded.root_span_id, created = excluded.created, "
    "xact = excluded.xact, is_span = excluded.is_span, ended = excluded.ended, doc = excluded.doc"
)


# The service's transaction ids have these bits, then 48 for the second of the write and 16 for a counter.
_XACT = 0x0DE1 << 48
_BACKDATED = 60.0


class RowsRefused(ValueError):
    """A row was not accepted, so no row of the request is stored; the message says which row and why."""


@dataclass
class StoredRow:
    """A row and when it first arrived, in seconds since the epoch."""

    row: Row
    arrived: float


class RowStore:
    """Projects and rows. Every method is atomic; :attr:`changed` is notified after each change.

    A row with ``_is_merge: true`` is merged deeply into the stored one, whose ids stay, or inserted when there
    is none; any other replaces it (https://www.braintrust.dev/docs/reference/api/Logs); ``_object_delete``
    removes it. ``_xact_id`` tells when a row was last written. ``_merge_paths`` and ``_array_delete`` are not
    imitated. A null mark of the guard reads as absent.

    Args:
        path: a file to keep the rows in; by default they are in memory.
    """

    def __init__(self, path: Path | None = None) -> None:
        import sqlite3

        self.changed = threading.Condition(threading.RLock())
        self._projects: dict[str, str] = {}
        self._writes = 0
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._connection.close)
        self._connection.execute("PRAGMA journal_mode = MEMORY")
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.executescript(_SCHEMA)

    def add_project(self, name: str, id: str | None = None) -> str:
        """The id of the project with this name, which is created if it does not exist."""
        with self.changed:
            for known, known_name in self._projects.items():
                if known_name == name and id in (None, known):
                    return known
            made = id or str(uuid.uuid4())
            self._projects[made] = name
            return made

    def projects(self) -> dict[str, str]:
        """Names by id."""
        with self.changed:
            return dict(self._projects)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        """Store all rows in order, or none, and return their ids.

        Raises:
            RowsRefused: a row has no id, no object, or an unknown project.
        """
        wanted = list(rows)
        for row in wanted:
            self.check(row)
        with self.changed:
            self._connection.execute("BEGIN")
            try:
                for row in wanted:
                    self._write_one(row)
            except BaseException:
                self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")
            self.changed.notify_all()
        return [row["id"] for row in wanted]

    def all(self) -> list[StoredRow]:
        """Every stored row, in order of first arrival."""
        with self.changed:
            found = self._connection.execute("SELECT doc, arrived FROM spans ORDER BY n").fetchall()
        return [StoredRow(visible(json.loads(doc)), arrived) for doc, arrived in found]

    def clear(self) -> None:
        """Forget all rows. Projects stay."""
        with self.changed:
            self._connection.execute("DELETE FROM spans")
            self.changed.notify_all()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run ``work`` on a connection whose table ``spans`` has the columns that :mod:`.query_fields` describes."""
        with self.changed:
            return work(self._connection)

    def check(self, row: Mapping[str, Any]) -> None:
        """Raise :class:`RowsRefused` if the row can't be stored."""
        if not isinstance(row.get("id"), str) or not row["id"]:
            raise RowsRefused(f"a row needs an id: {dict(row)}")
        if not any(row.get(owner) for owner in _OWNERS):
            raise RowsRefused(f"row {row['id']} needs one of {', '.join(_OWNERS)}")
        project = row.get("project_id")
        if project is not None and project not in self.projects():
            raise RowsRefused(f"row {row['id']} is of project {project!r}, which does not exist")

    def _write_one(self, row: Mapping[str, Any]) -> None:
        key = json.dumps(row_key(row))
        content: Row = {name: value for name, value in row.items() if name != "_is_merge"}
        if row.get("_object_delete"):
            self._connection.execute("DELETE FROM spans WHERE key = ?", (key,))
            return
        if row.get("_is_merge"):
            stored = self._connection.execute("SELECT doc FROM spans WHERE key = ?", (key,)).fetchone()
            content = merge(json.loads(stored[0]), content) if stored else content
        now = time.time()
        owner = next((_text(content.get(name)) for name in _OBJECTS if content.get(name)), None)
        columns = (owner, _text(content.get("root_span_id")), created_at(content.get("created")) or now, now)
        self._writes += 1
        xact = _XACT | int(_written_at(row, now)) << 16 | self._writes & 0xFFFF
        metrics = content.get("metrics")
        ended = number(metrics.get("end")) if isinstance(metrics, Mapping) else None
        is_span = content.get("span_id") is not None
        self._connection.execute(_UPSERT, (key, *columns, xact, is_span, ended, _document(content)))


def created_at(value: object) -> float | None:
    """A time in ISO format in seconds since the epoch; None if it is none."""
    if not isinstance(value, str):
        return None
    # Python 3.10 takes fractions of a second with three or six digits only.
    text = re.sub(r"\.(\d+)", lambda found: "." + found.group(1)[:6].ljust(6, "0"), value.replace("Z", "+00:00"))
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=datetime.timezone.utc)).timestamp()


def _written_at(row: Mapping[str, Any], now: float) -> float:
    """When a row was written: now, or for a row whose times lie further back than a minute, the last of them, so that
    a test can make a trace of yesterday."""
    metrics, metadata = row.get("metrics"), row.get("metadata")
    guard = metadata.get("trace_guard") if isinstance(metadata, Mapping) else None
    values = [created_at(row.get("created"))]
    values += [number(metrics.get(name)) for name in ("start", "end")] if isinstance(metrics, Mapping) else []
    values.append(number(guard.get("heartbeat")) if isinstance(guard, Mapping) else None)
    last = max((value for value in values if value is not None), default=now)
    return max(0.0, last) if last < now - _BACKDATED else now


def _document(row: Row) -> str:
    try:
        return json.dumps(row, allow_nan=False)
    except ValueError:  # JSON has no NaN, and SQLite would read none of the table's documents.
        return json.dumps(_finite(row))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(each) for name, each in value.items()}
    if isinstance(value, list):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and value - value != 0 else value


def _text(value: object) -> str | None:
    # JSON may contain lone surrogates, SQLite's text may not.
    return value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else None
