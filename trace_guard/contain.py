"""Our own faults never reach the code that we guard.

Every call from user code into ours goes through :func:`contain`. A fault is logged once per step with its
traceback, and the user's code goes on. Under test (:func:`raising`) it is raised instead, so that a fault
can't hide behind its own containment.

Every record of our logger is made safe by :class:`trace_guard.log_filter.LogFilter` before a handler sees it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeVar

from .log_filter import LogFilter

__all__ = ["contain", "contained", "is_shortage", "logger", "raising", "warn_once"]

T = TypeVar("T")
D = TypeVar("D")

logger = logging.getLogger("trace_guard")
logger.addFilter(LogFilter())

_SHORTAGES = frozenset({
    errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOBUFS, errno.ENOLCK, errno.ENOSPC, errno.EDQUOT,
})

_seen: set[str] = set()
_seen_lock = threading.Lock()
_raise = False


class contain:
    """``with contain("close the root span"): ...`` keeps an ``Exception`` of that block from going further.

    ``BaseException`` passes: Ctrl-C and ``SystemExit`` during our code are meant for the program, not for us.
    """

    __slots__ = ("_step",)

    def __init__(self, step: str) -> None:
        self._step = step

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> bool:
        if not isinstance(fault, Exception) or _raise:
            return False
        with contextlib.suppress(Exception):
            report(self._step, fault)
        return True


def contained(step: str, call: Callable[[], T], default: D) -> T | D:
    """``call()``, or ``default`` if it raises an ``Exception``."""
    with contain(step):
        return call()
    return default


def is_shortage(fault: BaseException | None) -> bool:
    """True if this machine has run short of something: descriptors, threads, memory or disk. It concerns whatever is
    done next, and no single row or journal."""
    while fault is not None:
        if isinstance(fault, MemoryError) or (isinstance(fault, OSError) and fault.errno in _SHORTAGES):
            return True
        if isinstance(fault, RuntimeError) and "new thread" in str(fault):
            return True
        fault = fault.__cause__
    return False


def report(step: str, fault: BaseException) -> None:
    """Log a fault of ours: the first of each step in full, later ones for debugging only."""
    first = _first(f"fault:{step}:{type(fault).__name__}")
    level = logging.WARNING if first else logging.DEBUG
    # A closed stderr, or a handler or filter of the user's, may raise: that must not come out of here either.
    with contextlib.suppress(Exception):
        logger.log(level, "trace-guard could not %s; your code is not affected", step, exc_info=fault)


def warn_once(key: str, message: str, *values: object) -> None:
    """Log a warning the first time that ``key`` comes up in this process."""
    if _first(key):
        with contextlib.suppress(Exception):
            logger.warning(message, *values)


def _first(key: str) -> bool:
    with _seen_lock:
        if key in _seen:
            return False
        _seen.add(key)
        return True


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Let faults through, and forget which have been logged. For tests."""
    global _raise
    before, _raise = _raise, True
    try:
        yield
    finally:
        _raise = before


def forget() -> None:
    """Make every fault and warning a first one again: after a fork, and between tests."""
    global _seen_lock
    _seen_lock = threading.Lock()
    _seen.clear()
