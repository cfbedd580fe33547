"""Contains trace-guard's own faults, so that they never reach the guarded code.

Every call from user code into trace-guard goes through :func:`contain`. A fault is logged with its traceback, once per
step, and the user's code continues. Under :func:`raising`, which tests use, the fault is raised instead, so tests see
faults that would otherwise only be logged.

:class:`trace_guard.redaction.log_filter.LogFilter` makes every log record safe before a handler sees it.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import TypeVar

from .redaction.log_filter import LogFilter
from .system.interruption import interruption

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
    """``with contain("close the root span"): ...`` logs and suppresses an ``Exception`` that the block raises.

    Other ``BaseException`` types pass: Ctrl-C and ``SystemExit`` are meant for the program. So is an exception that
    has interrupted the block, such as a time limit from a signal handler: see :mod:`trace_guard.system.interruption`.
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
        interrupting = interruption(fault)
        if interrupting is fault:
            return False
        if interrupting is not None:
            raise interrupting
        with contextlib.suppress(Exception):
            report(self._step, fault)
        return True


def contained(step: str, call: Callable[[], T], default: D) -> T | D:
    """Return ``call()``, or ``default`` if it raises an ``Exception``."""
    with contain(step):
        return call()
    return default


def is_shortage(fault: BaseException | None) -> bool:
    """True if the machine has run out of descriptors, threads, memory or disk space. Such a fault has nothing to do
    with the row or journal in use: the next operation would fail too."""
    while fault is not None:
        if isinstance(fault, MemoryError) or (isinstance(fault, OSError) and fault.errno in _SHORTAGES):
            return True
        if isinstance(fault, RuntimeError) and "new thread" in str(fault):
            return True
        fault = fault.__cause__
    return False


def report(step: str, fault: BaseException) -> None:
    """Log an internal fault. The first fault of a step is a warning, later ones are debug messages."""
    first = _first(f"fault:{step}:{type(fault).__name__}")
    level = logging.WARNING if first else logging.DEBUG
    # A closed stderr or a user's log handler may raise. That must not reach user code either.
    with contextlib.suppress(Exception):
        logger.log(level, "could not %s; your code is not affected", step, exc_info=fault)


def warn_once(key: str, message: str, *values: object) -> None:
    """Log a warning on the first call with this ``key`` in the process."""
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
    """Raise faults instead of logging them. For tests."""
    global _raise
    before, _raise = _raise, True
    try:
        yield
    finally:
        _raise = before


def forget() -> None:
    """Forget which faults and warnings were logged: after a fork, and between tests."""
    global _seen_lock
    _seen_lock = threading.Lock()
    _seen.clear()
