"""What the decorators were told, and the guard that comes of it at the first invocation."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from trace_guard import Deadline, FlushPolicy, Guard, Settings
from trace_guard.adapters import guard_for
from trace_guard.contain import contain, contained

from .keys import without_keys

__all__ = ["Extract", "Options"]

_RECOVERY_SECONDS = 60.0

Extract: TypeAlias = "Callable[[Any, Any], str | Mapping[str, str] | None]"
"""Finds the parent: of the trigger's value and the context."""


class Options:
    """The keywords of a decorator.

    The environment is read at the first invocation: a worker that waits as a placeholder has another one until it is
    told which app it is to run, and some versions of it import the app's code before that.
    https://learn.microsoft.com/azure/azure-functions/event-driven-scaling#cold-start

    Raises:
        SettingsError: a keyword is not accepted, whatever the environment says.
    """

    def __init__(
        self,
        *,
        guard: Guard | None = None,
        name: str | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        flush: FlushPolicy | str | None = None,
        extract: Extract | None = None,
        **settings: Any,
    ) -> None:
        self.name, self.tags, self.metadata = name, tags, metadata
        self.extract = extract
        self._given = guard
        self._keywords = {"flush": flush, **settings}
        self._guard: Guard | None = None
        self._is_made = False
        self._lock = threading.Lock()
        guard_for(Guard(Settings.from_env({})), **self._keywords)

    def guard(self) -> Guard | None:
        """The guard, started; None if tracing is off, or the environment's settings are not accepted."""
        if not self._is_made:
            with self._lock:
                if not self._is_made:
                    self._guard = contained("start", self._made, None)
                    self._is_made = True
        return self._guard

    def _made(self) -> Guard | None:
        chosen = guard_for(self._given, **self._keywords)
        if chosen is None or chosen.settings.disabled:
            return None
        guard = without_keys(chosen.start(is_waited_for=True))
        with contain("recover the rest"):
            if guard.runtime.unrecovered:
                # The invocation that has brought us here need not wait for it, and nobody freezes a worker afterwards.
                rest = functools.partial(guard.runtime.recover_rest, Deadline.after(_RECOVERY_SECONDS))
                threading.Thread(target=rest, name="trace-guard-recovery", daemon=True).start()
        return guard
