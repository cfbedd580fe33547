"""Detects a command that switches to another user, such as ``gosu`` in a container's entry point."""

from __future__ import annotations

import os

from ..contain import contained, warn_once
from .processes import user_of

__all__ = ["CommandUser"]


class CommandUser:
    """The user that a command last ran as.

    Args:
        pid: the command's process id.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._user: int | None = None

    def update(self) -> None:
        """Read the user again. Call this repeatedly and before the process is reaped: the user changes after the
        process has started."""
        self._user = contained("read the user of the command", lambda: user_of(self._pid), None)

    def warn_if_different(self) -> None:
        """Warn if the command ran as another user: it can't write to trace-guard's directory, so its journal is not
        there."""
        if self._user is not None and self._user != os.geteuid():
            warn_once(
                "another user",
                "the command ran as user %d and can't use trace-guard's directory, which belongs to user %d: spans "
                "that a guarded program has open when it is killed stay open. Change the user first, then supervise: "
                "`gosu app trace-guard run -- ...`",
                self._user, os.geteuid(),
            )
