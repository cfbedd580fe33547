"""Metadata that an invocation collects while it runs and logs on its root span at the end."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from ..rows import Row, merge

__all__ = ["RootMetadata"]


class RootMetadata:
    """Metadata, counters, and an error that was reported without an exception. Any thread may add to them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metadata: Row = {}
        self._error: str | None = None

    @property
    def error(self) -> str | None:
        """The first reported error."""
        return self._error

    def add(self, metadata: Mapping[str, Any]) -> None:
        """Merge metadata deeply into the earlier metadata."""
        with self._lock:
            merge(self._metadata, metadata)

    def count(self, group: str, key: str, by: int) -> None:
        with self._lock:
            counters = self._metadata.setdefault(group, {})
            if isinstance(counters, dict):  # else other metadata uses that name
                counters[key] = counters.get(key, 0) + by

    def fail(self, error: str) -> None:
        with self._lock:
            self._error = self._error or error

    def take(self) -> Row:
        """Return the metadata collected so far, and start again with none."""
        with self._lock:
            taken, self._metadata = self._metadata, {}
        return taken
