"""Interprets the exceptions that end a program: https://docs.python.org/3/library/sys.html#sys.exit"""

from __future__ import annotations

import asyncio

__all__ = ["exit_code", "failure", "is_end_by"]

_ENDS = (SystemExit, KeyboardInterrupt, asyncio.CancelledError)


def exit_code(error: SystemExit) -> int:
    """The exit status of the process if the exception is not caught."""
    if error.code is None:
        return 0
    if not isinstance(error.code, int):
        return 1
    # An integer that does not fit a C long counts as -1.
    return error.code & 0xFF if -(2**63) <= error.code < 2**63 else 0xFF


def failure(error: BaseException | None) -> BaseException | None:
    """The error; None for a ``SystemExit`` with status 0, which is a success."""
    return None if isinstance(error, SystemExit) and exit_code(error) == 0 else error


def is_end_by(signal: str, error: BaseException | None) -> bool:
    """True if the error of a job is the effect of a received signal. A job may also catch a SIGINT and run on for
    hours, so a SIGINT must match the error."""
    is_exit = any(isinstance(failure(one), _ENDS) for one in _leaves(error))
    return is_exit and (signal != "SIGINT" or any(_is_interrupted(one) for one in _leaves(error)))


def _leaves(error: BaseException | None) -> list[BaseException | None]:
    """The exceptions of a group, which task groups and nurseries raise; else the error itself."""
    inner = getattr(error, "exceptions", None)
    if not isinstance(inner, tuple) or not any(kind.__name__ == "BaseExceptionGroup" for kind in type(error).__mro__):
        return [error]
    return [leaf for one in inner for leaf in _leaves(one)]


def _is_interrupted(error: BaseException | None) -> bool:
    """True for a keyboard interrupt, also as asyncio's cancellation, and for an exit that was caused by one."""
    while error is not None and not isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
        error = error.__cause__ or error.__context__
    return error is not None
