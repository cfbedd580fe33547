"""A backend for tests that keeps rows in a dictionary."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence

from ..deadline import Deadline
from ..journal.spooled import Content, SpooledAttachment
from ..rows import Row, RowKey, merge, row_key, visible

__all__ = ["MemoryBackend"]


class MemoryBackend:
    """Keeps rows in memory, merged as the server would.

    Attributes:
        sends: how many times rows were sent.
        attachments: what was stored, by key.
    """

    name = "memory"
    max_bytes = 6 * 1024 * 1024

    def __init__(self) -> None:
        self.sends = 0
        self.attachments: dict[str, bytes] = {}
        self._rows: dict[RowKey, Row] = {}
        self._lock = threading.Lock()

    def send(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        """Merge rows into those that are there."""
        with self._lock:
            self.sends += 1
            for encoded in rows:
                row = json.loads(encoded)
                replace = not row.pop("_is_merge", False)
                key = row_key(row)
                self._rows[key] = visible(row if replace else merge(self._rows.get(key, {}), row))

    def resolve_project(self, name: str, deadline: Deadline) -> str:
        """The name itself, which serves as the project's id here."""
        return name

    def attach(self, one: SpooledAttachment, deadline: Deadline) -> None:
        """Keep the content of an attachment."""
        if one.content is not None:
            self.attachments[one.key] = b"".join(one.content)

    def find_attachment(self, key: str) -> Content | None:
        """The content of the attachment with this key; None if there is none."""
        found = self.attachments.get(key)
        return None if found is None else Content(found)

    def close(self) -> None:
        """Nothing to close: the rows stay readable."""

    def rows(self) -> list[Row]:
        """The stored rows, oldest first."""
        with self._lock:
            return [dict(row) for row in self._rows.values()]
