"""Divides the time between the platform's SIGTERM and its SIGKILL."""

from __future__ import annotations

import os

from ..errors import SettingsError
from ..jobs.platform import Platform
from ..settings import Settings

__all__ = ["GRACE_VARIABLE", "Grace"]

GRACE_VARIABLE = "TRACE_GUARD_GRACE"
# The time that is kept back to close and deliver after a command that did not end in time was killed.
_RESERVE_SECONDS = 1.5
_RESERVE_SHARE = 0.15
# The part of the reserve that is kept back for the supervisor's own exit.
_EXIT_SHARE = 0.25


class Grace:
    """The grace period, divided between the command and its supervisor.

    Args:
        seconds: the whole period; by default the environment's, else the platform's.

    Attributes:
        seconds: the whole period.
        for_command: seconds after which a command that has not ended is killed. The command gets this value in
            ``TRACE_GUARD_GRACE``, so that a guarded job in it closes and delivers in time.
        until_exit: seconds after which the supervisor must have exited.
    """

    def __init__(self, seconds: float | None, platform: Platform) -> None:
        known = _from_environment() if seconds is None else seconds
        self.seconds = platform.grace if known is None else known
        reserve = min(_RESERVE_SECONDS, self.seconds * _RESERVE_SHARE)
        self.for_command = self.seconds - reserve
        self.until_exit = self.seconds - reserve * _EXIT_SHARE


def _from_environment() -> float | None:
    try:
        return Settings.from_env({GRACE_VARIABLE: os.environ.get(GRACE_VARIABLE, "")}).grace
    except SettingsError:
        return None  # the error is reported when all settings are read
