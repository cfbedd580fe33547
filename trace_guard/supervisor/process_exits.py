"""Tells how the process that left a journal behind ended."""

from __future__ import annotations

import json
from pathlib import Path

from ..journal.format import Kind
from ..journal.orphans import Death
from ..journal.reader import read_entries, read_header
from ..outcome import ClosedBy, Outcome
from .exit_status import ExitStatus

__all__ = ["ProcessExits"]

_MOST_REMEMBERED = 1000


class ProcessExits:
    """The exits of the command's processes that the supervisor has seen.

    Args:
        pid: the command's process id.
        trace: the id of the trace that the processes belong to.
        began: when the command started, in seconds since the epoch. Older journals are not the command's.
    """

    def __init__(self, pid: int, trace: str, began: float) -> None:
        self._pid = pid
        self._trace = trace
        self._began = began
        self._seen: dict[int, ExitStatus] = {}

    def record(self, pid: int, exit_status: ExitStatus) -> None:
        """Record how a process ended. The latest exit of a process id counts, as the kernel reuses ids."""
        self._seen.pop(pid, None)
        self._seen[pid] = exit_status
        while len(self._seen) > _MOST_REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def death_of(self, path: Path, command: ExitStatus | None) -> Death | None:
        """How the process of a journal died; None if it was not one of the command's processes.

        Args:
            command: how the command ended; None while it runs.
        """
        header = read_header(path)
        if header.get("created", 0.0) < self._began:
            return None
        seen = self._seen.get(int(header.get("pid") or 0))
        if seen is None and not self._is_of_trace(path):
            return None
        return _death(seen, command)

    def is_settled(self, path: Path) -> bool:
        """False for the journal of the command itself as long as its exit status is unknown."""
        return read_header(path).get("pid") != self._pid or self._pid in self._seen

    def _is_of_trace(self, path: Path) -> bool:
        """True if the journal has an invocation or a span of the trace."""
        return any(
            json.loads(entry.payload).get("root_span_id") == self._trace
            for entry in read_entries(path) if entry.kind in (Kind.INVOCATION, Kind.IDENTITY)
        )


def _death(own: ExitStatus | None, command: ExitStatus | None) -> Death:
    """How a process of the command died.

    A child of another process, such as a shell, is reaped there, so its own exit status is unknown. The exit status of
    the command may tell how it died, as a shell's does: 137 for SIGKILL.
    """
    known = own or (command if command is not None and command.killing_signal is not None else None)
    if known is None:
        return Death(0.0, False, {}, closed_by=ClosedBy.SUPERVISOR)
    is_killed = known.killing_signal is not None
    return Death(
        # The command ended later than the process itself, so its time is not used.
        own.at if own is not None else 0.0, False, {}, closed_by=ClosedBy.SUPERVISOR, reason=known.reason,
        outcome=Outcome.TERMINATED if is_killed else Outcome.ABANDONED,
        error=f"Terminated: {known.description}" if is_killed
        else f"Abandoned: the process ended with {known.description}, without closing this span",
    )
