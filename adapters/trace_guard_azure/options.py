"""The keywords of a decorator, from which the guard is made at the first invocation."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from trace_guard import Deadline, Guard, Settings
from trace_guard.contain import contain, contained
from trace_guard.guard import Options
from trace_guard.http.exclude import Exclude, Excluded
from trace_guard.system.threads import QuietThread

from .keys import without_keys

__all__ = ["AzureOptions", "Extract"]

_RECOVERY_SECONDS = 60.0

Extract: TypeAlias = Callable[[Any, Any], str | Mapping[str, str] | None]
"""Finds the parent, given the trigger's value and the context."""


class AzureOptions:
    """The keywords of a decorator, and a guard that is made late.

    The environment is read at the first invocation. A placeholder worker has another environment until it is assigned
    to an app, and some versions of the worker import the app's code before that.
    https://learn.microsoft.com/azure/azure-functions/event-driven-scaling#cold-start

    Raises:
        SettingsError: a keyword's value is not accepted.
    """

    def __init__(self, options: Options, extract: Extract | None = None, exclude: Exclude = ()) -> None:
        self.name, self.tags, self.metadata = options.name, options.tags, options.metadata
        self.extract = extract
        self.excluded = Excluded(exclude)
        self._options = options
        self._guard: Guard | None = None
        self._is_made = False
        self._lock = threading.Lock()
        replace(options, guard=Guard(Settings.from_env({}))).make_guard()  # checks the keywords

    def guard(self) -> Guard | None:
        """The guard, started; None if tracing is off, or the environment's settings are not accepted."""
        if not self._is_made:
            with self._lock:
                if not self._is_made:
                    self._guard = contained("start", self._made, None)
                    self._is_made = True
        return self._guard

    def _made(self) -> Guard | None:
        chosen = self._options.make_guard()
        if chosen is None:
            return None
        guard = without_keys(chosen.start(defer_recovery=True))
        with contain("recover the rest"):
            if guard.pipeline.neighbours.unrecovered:
                # On a thread, so that the first invocation does not wait. Workers are not frozen after a response.
                rest = functools.partial(guard.pipeline.neighbours.recover_rest, Deadline.after(_RECOVERY_SECONDS))
                QuietThread(target=rest, name="trace-guard-recovery", daemon=True).start()
        return guard
