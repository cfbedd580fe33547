"""The time between the platform's SIGTERM and its SIGKILL, and what of it is whose."""

from __future__ import annotations

import os

from ..errors import SettingsError
from ..jobs.platform import Platform
from ..settings import Settings

__all__ = ["GRACE_VARIABLE", "Grace"]

GRACE_VARIABLE = "TRACE_GUARD_GRACE"
# What is kept for closing and delivering after a command that did not end in time was killed.
_RESERVE_SECONDS = 1.5
_RESERVE_SHARE = 0.15
# Of that, what is left for the supervisor to end.
_EXIT_SHARE = 0.25


class Grace:
    """Shared out between the command and its supervisor.

    Args:
        given: seconds; by default those of the environment, else of the platform.

    Attributes:
        seconds: all of it.
        of_command: seconds after which a command that has not ended is killed. It is told of them, so that a guarded
            job in it has closed and delivered by then.
        until_exit: seconds after which the supervisor is to have ended.
    """

    def __init__(self, given: float | None, platform: Platform) -> None:
        known = _of_environment() if given is None else given
        self.seconds = platform.grace if known is None else known
        reserve = min(_RESERVE_SECONDS, self.seconds * _RESERVE_SHARE)
        self.of_command = self.seconds - reserve
        self.until_exit = self.seconds - reserve * _EXIT_SHARE


def _of_environment() -> float | None:
    try:
        return Settings.from_env({GRACE_VARIABLE: os.environ.get(GRACE_VARIABLE, "")}).grace
    except SettingsError:
        return None  # that is reported when all settings are read
