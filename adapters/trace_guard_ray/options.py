"""The keywords of a decorator. They are pickled to the workers with the function."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from trace_guard import FlushPolicy, Guard, SettingsError
from trace_guard.guard import Options as Keywords
from trace_guard.guard import guard_for
from trace_guard.runtime.state import PROCESS

from .facts import in_worker
from .sweep import orphan_sweeper

__all__ = ["Options"]

# The settings of a guard that are sent to workers. Each node takes directory, destination and key from its environment.
_PORTABLE = (
    "project", "project_id", "flush", "flush_timeout", "capture_input", "capture_output", "redact",
    "max_payload_bytes",
)
# Ray gives an idle worker a short time to exit and then kills it. The node's next worker delivers the rest from disk.
_EXIT_SECONDS = 2.0


class Options:
    """The guard of a decorated function or class, and the name, tags and metadata of its spans.

    Args:
        guard: by default the process's own. A guard can't be pickled, so a worker makes one with the same settings.
        keywords: single settings, which override those of the guard.

    Raises:
        SettingsError: a keyword's value is not accepted.
    """

    def __init__(
        self,
        guard: Guard | None = None,
        *,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        **keywords: Any,
    ) -> None:
        given = Keywords(guard=guard, name=name, tags=tags, metadata=metadata)
        self.name, self.tags = given.name, given.tags
        self.metadata = None if given.metadata is None else dict(given.metadata)
        self._keywords = keywords
        self._given = guard
        self._lock = threading.Lock()
        self._guard: Guard | None = None
        self.is_off = False
        self._use(guard_for(guard, **keywords))

    def _use(self, guard: Guard | None) -> None:
        self.is_off = guard is None or guard.settings.disabled
        if guard is not None:
            if guard.settings.flush is FlushPolicy.AUTO:
                # A worker outlives its task, and the next task waits for it. So rows are sent in the background, those
                # of many tasks in one request.
                guard = guard.with_settings(replace(guard.settings, flush=FlushPolicy.AFTER_RESPONSE))
            self._guard = guard

    @property
    def guard(self) -> Guard:
        """The guard of this process, started.

        Raises:
            SettingsError: the settings of this process's environment are not accepted.
        """
        if self._guard is None:
            with self._lock:
                if self._guard is None:
                    self._use(guard_for(None, **self._keywords))
                    if in_worker():
                        PROCESS.exits_within(_EXIT_SECONDS)
                    if self._guard is not None:
                        orphan_sweeper.use(self._guard)
        if self._guard is None:
            raise SettingsError("the settings of this worker's environment are not accepted; they were reported")
        return self._guard

    def start(self) -> None:
        """Prepare in the driver, so that its first invocation need not wait."""
        orphan_sweeper.use(self.guard.start())

    def __getstate__(self) -> dict[str, Any]:
        settings = self.guard.settings
        keywords = {name: getattr(settings, name) for name in _PORTABLE}
        return {"name": self.name, "tags": self.tags, "metadata": self.metadata, "_keywords": keywords}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._given = self._guard = None
        self._lock = threading.Lock()
        self.is_off = False

