"""What it means that a program exits by an exception: https://docs.python.org/3/library/sys.html#sys.exit"""

from __future__ import annotations

import asyncio

__all__ = ["exit_code", "failure", "is_end_by"]


def exit_code(error: SystemExit) -> int:
    """What the process will end with, if nobody catches it."""
    if error.code is None:
        return 0
    if not isinstance(error.code, int):
        return 1
    # What is no long in C counts as -1.
    return error.code & 0xFF if -(2**63) <= error.code < 2**63 else 0xFF


def failure(error: BaseException | None) -> BaseException | None:
    """The error, unless it is how a program says that there is none."""
    return None if isinstance(error, SystemExit) and exit_code(error) == 0 else error


def is_end_by(signal: str, error: BaseException | None) -> bool:
    """True if a job that ends with this error has been ended by a signal that has come. It may have caught a SIGINT,
    and gone on for hours."""
    is_exit = isinstance(failure(error), (SystemExit, KeyboardInterrupt, asyncio.CancelledError))
    return is_exit and (signal != "SIGINT" or _is_interrupted(error))


def _is_interrupted(error: BaseException | None) -> bool:
    """True for an interrupt from the keyboard, also as asyncio hands it on, and for an exit that answers it."""
    while error is not None and not isinstance(error, (KeyboardInterrupt, asyncio.CancelledError)):
        error = error.__cause__ or error.__context__
    return error is not None
