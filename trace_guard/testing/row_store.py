"""Stores rows as Braintrust's public documentation describes."""

from __future__ import annotations

import copy
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..rows import Row, RowKey, merge, row_key, visible

__all__ = ["RowStore", "RowsRefused", "StoredRow"]

_OWNERS = ("project_id", "experiment_id", "dataset_id", "prompt_session_id")


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
    removes it. ``_merge_paths`` and ``_array_delete`` are not imitated. A null mark of the
    guard reads as absent.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition(threading.RLock())
        self._projects: dict[str, str] = {}
        self._stored: dict[RowKey, StoredRow] = {}

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
        with self.changed:
            for row in wanted:
                self._check(row)
            for row in wanted:
                self._write_one(row)
            self.changed.notify_all()
        return [row["id"] for row in wanted]

    def all(self) -> list[StoredRow]:
        """Copies of every stored row, in order of first arrival."""
        with self.changed:
            return [StoredRow(visible(copy.deepcopy(one.row)), one.arrived) for one in self._stored.values()]

    def clear(self) -> None:
        """Forget all rows. Projects stay."""
        with self.changed:
            self._stored.clear()
            self.changed.notify_all()

    def _check(self, row: Mapping[str, Any]) -> None:
        if not isinstance(row.get("id"), str) or not row["id"]:
            raise RowsRefused(f"a row needs an id: {dict(row)}")
        if not any(row.get(owner) for owner in _OWNERS):
            raise RowsRefused(f"row {row['id']} needs one of {', '.join(_OWNERS)}")
        project = row.get("project_id")
        if project is not None and project not in self._projects:
            raise RowsRefused(f"row {row['id']} is of project {project!r}, which does not exist")

    def _write_one(self, row: Mapping[str, Any]) -> None:
        key = row_key(row)
        content = copy.deepcopy({name: value for name, value in row.items() if name != "_is_merge"})
        stored = self._stored.get(key)
        if row.get("_object_delete"):
            self._stored.pop(key, None)
        elif stored is None:
            self._stored[key] = StoredRow(content, time.time())
        elif row.get("_is_merge"):
            merge(stored.row, content)
        else:
            stored.row = content
