"""Reads the state of processes from ``/proc``. Outside Linux nothing is found."""

from __future__ import annotations

import contextlib
import operator
import os
import signal
from collections.abc import Iterator
from pathlib import Path

__all__ = ["children", "is_dying", "user_of"]


_EXITING = 0x4  # PF_EXITING of include/linux/sched.h
_KILL_PENDING = 1 << (signal.SIGKILL - 1)


def children() -> set[int]:
    """The unreaped children of this process. They include the processes that the command left behind, as this process
    adopts orphans. A zombie may still have threads, which hold its files until they end."""
    pids = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # the process is gone
            if int(_fields(status)[1]) == os.getpid():
                pids.add(int(status.parent.name))
    return pids


def is_dying(pid: int) -> bool:
    """True for a process that is being killed or has begun to exit. Freeing much memory takes the kernel a while."""
    try:
        state, flags = operator.itemgetter(0, 6)(_fields(Path(f"/proc/{pid}/stat")))
        pending = [int(values[0], 16) for name, values in _status(pid) if name in ("SigPnd", "ShdPnd")]
    except (OSError, ValueError):  # the process is gone
        return False
    return state == "Z" or bool(int(flags) & _EXITING) or any(mask & _KILL_PENDING for mask in pending)


def user_of(pid: int) -> int | None:
    """The effective user of a process, which may have ended but must not be reaped; None if it is unknown."""
    try:
        # "Uid: real effective saved filesystem"
        return next((int(values[1]) for name, values in _status(pid) if name == "Uid"), None)
    except OSError:
        return None


def _fields(stat: Path) -> list[str]:
    """The fields from the state on, proc_pid_stat(5): "12 (name) S 1 ...". The name may contain any character."""
    return stat.read_text(errors="replace").rpartition(")")[2].split()


def _status(pid: int) -> Iterator[tuple[str, list[str]]]:
    """Names and values, proc_pid_status(5)."""
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        yield name, value.split()
