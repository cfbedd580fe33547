"""Interprets the exceptions that end a program: https://docs.python.org/3/library/sys.html#sys.exit"""

from __future__ import annotations

import asyncio

__all__ = ["exit_code", "failure", "is_end_by"]


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
    is_exit = isinstance(failure(error), (SystemExit, KeyboardInterrupt, asyncio.CancelledError))
    return is_exit and (signal != "SIGINT" or _is_interrupted(error))


def _is_interrupted(error: BaseException | None) -> bool:
    """True for a keyboard interrupt, also as asyncio's cancellation, and for an exit that was caused by one."""
    while error is not None and not isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
        error = error.__cause__ or error.__context__
    return error is not None
