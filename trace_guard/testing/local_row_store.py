"""Lets the simulated Braintrust keep its rows in the local store, where ``trace-guard traces`` finds them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from ..backends.local import LocalStore
from ..backends.summaries import project_of
from ..deadline import Deadline
from ..errors import BackendError
from ..rows import dump
from .row_store import RowsRefused, RowStore, StoredRow, created_at

if TYPE_CHECKING:
    import sqlite3

__all__ = ["LocalRowStore"]

T = TypeVar("T")

_WRITE_SECONDS = 10.0
# `created` in days since noon of 4714 BC, in seconds since the epoch.
_CREATED = "(julianday(json_extract(doc, '$.created')) - 2440587.5) * 86400.0"
_VIEW = f"""
CREATE TEMP VIEW IF NOT EXISTS spans AS SELECT
  rowid AS n, key, root_span_id, doc,
  COALESCE(json_extract(doc, '$.experiment_id'), json_extract(doc, '$.dataset_id'),
    json_extract(doc, '$.prompt_session_id'), json_extract(doc, '$.project_id')) AS object,
  COALESCE({_CREATED}, start, 0) AS created,
  COALESCE({_CREATED}, start, 0) AS arrived,
  rowid AS xact,
  json_extract(doc, '$.span_id') IS NOT NULL AS is_span,
  json_extract(doc, '$.metrics.end') AS ended
FROM rows
"""


class LocalRowStore(RowStore):
    """Rows in a :class:`LocalStore`. A project's name is its id there, and every project exists."""

    def __init__(self, local: LocalStore) -> None:
        super().__init__()
        self._local = local

    def add_project(self, name: str, id: str | None = None) -> str:
        return super().add_project(name, id or name)

    def projects(self) -> dict[str, str]:
        def stored(connection: sqlite3.Connection) -> dict[str, str]:
            found = connection.execute("SELECT DISTINCT project FROM rows WHERE project IS NOT NULL")
            return {name: name for (name,) in found}

        return {**self._local.read(stored, {}), **super().projects()}

    def write(self, rows: Iterable[Mapping[str, Any]]) -> list[str]:
        wanted = list(rows)
        for row in wanted:
            self.check(row)
        try:
            self._local.send([dump(row) for row in wanted], Deadline.after(_WRITE_SECONDS))
        except BackendError as error:
            raise RowsRefused(str(error)) from error
        with self.changed:
            self.changed.notify_all()
        return [row["id"] for row in wanted]

    def check(self, row: Mapping[str, Any]) -> None:
        project = project_of(row)
        if project is not None:
            self.add_project(project)
        super().check(row)

    def all(self) -> list[StoredRow]:
        return [StoredRow(row, created_at(row.get("created")) or 0.0) for row in self._local.all_rows()]

    def clear(self) -> None:
        rows = [{**json.loads(dump(stored.row)), "_object_delete": True} for stored in self.all()]
        self._local.send([dump(row) for row in rows], Deadline.after(_WRITE_SECONDS))

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def reading(connection: sqlite3.Connection) -> T | None:
            connection.execute(_VIEW)
            return work(connection)

        found = self._local.read(reading, None)
        return super().read(work) if found is None else found  # there is no file yet, so an empty table answers
