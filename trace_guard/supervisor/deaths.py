"""Whose journal it is that a dead process has left behind, and how that process has ended."""

from __future__ import annotations

import json
from pathlib import Path

from ..journal.format import Kind
from ..journal.orphans import Death
from ..journal.reader import read_entries, read_header
from ..outcome import ClosedBy, Outcome
from .end import End

__all__ = ["Deaths"]

_REMEMBERED = 1000


class Deaths:
    """The ends that the supervisor has seen.

    Args:
        pid: of the command.
        trace: the id of the trace that its processes belong to.
        began: when it was started, in seconds since the epoch; a journal from before is not its.
    """

    def __init__(self, pid: int, trace: str, began: float) -> None:
        self._pid = pid
        self._trace = trace
        self._began = began
        self._seen: dict[int, End] = {}

    def saw(self, pid: int, end: End) -> None:
        """A process has ended thus; a later one may have the same id."""
        self._seen.pop(pid, None)
        self._seen[pid] = end
        while len(self._seen) > _REMEMBERED:
            del self._seen[next(iter(self._seen))]

    def of(self, path: Path, end: End | None) -> Death | None:
        """How the process of a journal has ended; None if that is not known, as it was none of the command's.

        Args:
            end: that of the command; None while it runs.
        """
        header = read_header(path)
        if header.get("created", 0.0) < self._began:
            return None
        seen = self._seen.get(int(header.get("pid") or 0))
        if seen is None and not self._is_of_trace(path):
            return None
        return _death(seen, end)

    def may_be_told(self, path: Path) -> bool:
        """False for a journal that was begun by the command itself, whose end is yet to be told."""
        return read_header(path).get("pid") != self._pid or self._pid in self._seen

    def _is_of_trace(self, path: Path) -> bool:
        """True if an invocation or a span in it belongs to the trace."""
        return any(
            json.loads(entry.payload).get("root_span_id") == self._trace
            for entry in read_entries(path) if entry.kind in (Kind.INVOCATION, Kind.IDENTITY)
        )


def _death(own: End | None, command: End | None) -> Death:
    """The death of a process of the command's, from its own end if that was seen.

    If not, it was a child of a process that is not told of here, such as a shell; then the status of the command may
    say it, as shells do: 137 for SIGKILL.
    """
    known = own or (command if command is not None and command.told is not None else None)
    if known is None:
        return Death(0.0, False, {}, closed_by=ClosedBy.SUPERVISOR)
    is_killed = known.told is not None
    return Death(
        # The command's end is later than that of the process which it tells of.
        own.at if own is not None else 0.0, False, {}, closed_by=ClosedBy.SUPERVISOR, reason=known.reason,
        outcome=Outcome.TERMINATED if is_killed else Outcome.ABANDONED,
        error=f"Terminated: {known.words}" if is_killed
        else f"Abandoned: the process ended with {known.words}, without closing this span",
    )
