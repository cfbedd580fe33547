"""What ``/proc`` says of processes; elsewhere than on Linux, nothing."""

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
    """The children of this process that are not reaped: those that the command has left behind, as orphans are adopted
    here. One that is called a zombie may still have threads, which hold its files until they are gone."""
    found = set()
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError):  # it is gone
            if int(_fields(status)[1]) == os.getpid():
                found.add(int(status.parent.name))
    return found


def is_dying(pid: int) -> bool:
    """True of a process that is being killed, or has begun to end: the kernel takes a while to free much memory."""
    try:
        state, flags = operator.itemgetter(0, 6)(_fields(Path(f"/proc/{pid}/stat")))
        pending = [int(given[0], 16) for name, given in _status(pid) if name in ("SigPnd", "ShdPnd")]
    except (OSError, ValueError):  # it is gone
        return False
    return state == "Z" or bool(int(flags) & _EXITING) or any(one & _KILL_PENDING for one in pending)


def user_of(pid: int) -> int | None:
    """The user whose rights a process has, also of one that has ended and is not yet reaped; None if that is not known.
    """
    try:
        # "Uid: real effective saved filesystem"
        return next((int(given[1]) for name, given in _status(pid) if name == "Uid"), None)
    except OSError:
        return None


def _fields(stat: Path) -> list[str]:
    """From the state on: "12 (name) S 1 ...", where the name may have anything in it, proc_pid_stat(5)."""
    return stat.read_text(errors="replace").rpartition(")")[2].split()


def _status(pid: int) -> Iterator[tuple[str, list[str]]]:
    """Names and values, proc_pid_status(5)."""
    for line in Path(f"/proc/{pid}/status").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        yield name, value.split()
