"""Linux process controls of prctl(2). On other platforms every function returns False."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["adopt_orphans", "die_with_parent", "leave_no_core"]

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def _load_prctl() -> Callable[..., Any] | None:
    if sys.platform != "linux":
        return None
    try:
        import ctypes

        return getattr(ctypes.CDLL(None), "prctl", None)
    except (ImportError, OSError):  # a Python without ctypes, or a program without a C library
        return None


# Loaded at import, as loading a library between fork and exec is unsafe.
_prctl = _load_prctl()


def _set(option: int, value: int) -> bool:
    return _prctl is not None and _prctl(option, value, 0, 0, 0) == 0


def adopt_orphans() -> bool:
    """Make this process the parent of every descendant whose own parent ends, as PID 1 is by default."""
    return _set(_PR_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> bool:
    """Have the kernel kill this process when the thread that forked it ends."""
    return _set(_PR_SET_PDEATHSIG, signal.SIGKILL)


def leave_no_core() -> bool:
    """Disable core dumps of this process, including those piped to a program, which ``RLIMIT_CORE`` allows."""
    return _set(_PR_SET_DUMPABLE, 0)
