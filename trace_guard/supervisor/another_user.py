"""A command that becomes another user than its supervisor is, as by ``gosu`` in a container's entry point."""

from __future__ import annotations

import os

from ..contain import contained, warn_once
from .processes import user_of

__all__ = ["AnotherUser"]


class AnotherUser:
    """Whose rights a process has had last.

    Args:
        pid: of the process.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._user: int | None = None

    def look(self) -> None:
        """To be called time and again, and before the process is reaped: it changes its user after it has begun."""
        self._user = contained("tell the user of the command", lambda: user_of(self._pid), None)

    def warn(self) -> None:
        """Trace-guard's directory is its owner's alone, so the program's journal is not there: say it before it is
        missed."""
        if self._user is not None and self._user != os.geteuid():
            warn_once(
                "another user",
                "the command ran as user %d, to whom trace-guard's directory is closed, as it is user %d's: what a "
                "guarded program has open when it is killed stays open. Change the user first, and supervise then: "
                "`gosu app trace-guard run -- ...`",
                self._user, os.geteuid(),
            )
