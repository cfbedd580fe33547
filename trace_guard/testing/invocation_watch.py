"""Watches an invocation until the environment is frozen or dead, and enforces its time limits."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .execution_environment import Environment
from .runtime_api import Invocation

__all__ = ["InvocationWatch"]

# Within which a function must be restored: https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks-python.html
_RESTORE_SECONDS = 10.0
# An upper bound of a wait that a notification ends.
_A_WHILE = 60.0
# The kernel takes microseconds to stop a process.
_STOP_SECONDS = 1.0


@dataclass(frozen=True)
class InvocationWatch:
    """The limits of one invocation.

    Args:
        init_timeout: seconds from the start of the first process.
        reset: ends an environment whose time is up.
        kill_after: seconds after handing over the event until the runtime gets SIGKILL.
        kill_when: called every millisecond after handing over the event; SIGKILL is sent when it returns True.
    """

    environment: Environment
    invocation: Invocation
    changed: threading.Condition
    freeze: bool
    init_timeout: float
    reset: Callable[[], None]
    kill_after: float | None = None
    kill_when: Callable[[], Any] | None = None

    def until_over(self) -> bool:
        """Wait until everything is frozen or a process is dead; True if the time was up."""
        environment, invocation, timed_out = self.environment, self.invocation, False
        while True:
            with self.changed:
                finished = invocation.finished_at is not None
                if environment.first_dead or (finished and (environment.frozen or not self.freeze)):
                    return timed_out
                under_way = invocation.handed_at is not None and not finished
                limit = kill_at = self._limit()
                if self.kill_after is not None and invocation.handed_at is not None and under_way:
                    kill_at = min(limit, invocation.handed_at + self.kill_after)
                now = time.monotonic()
                asks = self.kill_when is not None and under_way
                if now < kill_at:
                    self.changed.wait(min(kill_at - now, 0.001 if asks else _STOP_SECONDS if finished else _A_WHILE))
                if finished and not environment.frozen:
                    environment.freeze()  # again: once in some thousand runs a group went on after SIGSTOP
            # Without the lock, which the end of a process needs in order to become known.
            if now >= limit:
                timed_out = True
                self.reset()
            elif now >= kill_at or (asks and self.kill_when and self.kill_when() and invocation.finished_at is None):
                environment.kill_runtime()

    def _limit(self) -> float:
        """When the time is up, on the monotonic clock."""
        if self.invocation.finished_at is not None:
            return math.inf
        if self.invocation.handed_at is not None:
            return self.invocation.handed_at + self.invocation.timeout
        api = self.environment.api
        if api.ready_at is None:
            return self.environment.started_at + self.init_timeout
        return math.inf if api.restoring_since is None else api.restoring_since + _RESTORE_SECONDS
