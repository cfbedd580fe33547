"""What Linux lets a process decide about its children and its death, prctl(2). Elsewhere nothing of it can be had."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["adopt_orphans", "die_with_parent", "leave_no_core"]

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def _found() -> Callable[..., Any] | None:
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        return getattr(ctypes.CDLL(None), "prctl", None)
    except (ImportError, OSError):  # a Python without ctypes, or a program without a C library
        return None


# Now, and not between fork and exec.
_prctl = _found()


def _set(option: int, value: int) -> bool:
    return _prctl is not None and _prctl(option, value, 0, 0, 0) == 0


def adopt_orphans() -> bool:
    """Become the parent of every descendant whose own parent ends, as PID 1 is of all; False where that can't be."""
    return _set(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> bool:
    """Have this process killed when the thread that has forked it ends; False where that can't be."""
    return _set(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_no_core() -> bool:
    """Have this process die without a core dump, also where those go to a program, which no limit keeps off."""
    return _set(_PR_SET_DUMPABLE, 0)
