"""Tells exceptions that interrupt code from those that the code itself raises.

A time limit can interrupt any code, ours too: RQ and Celery raise an ``Exception`` from a signal handler, and RQ's
timer and Dramatiq have Python raise one with ``PyThreadState_SetAsyncExc``. It is meant for the program that set the
limit. The rule reads the traceback:

- A function in it received the frame that called it as an argument. Python calls only signal handlers and trace
  functions so: it has interrupted that frame.
- Or the traceback ends at an instruction that is not a ``raise``, and the exception could be made without arguments.
  ``PyThreadState_SetAsyncExc`` takes a class, while functions in C give their exceptions a text or a value. The few
  that don't are listed.
"""

from __future__ import annotations

import dis
import inspect
import queue
import signal
from types import CodeType, FrameType, FunctionType, TracebackType
from typing import Any

__all__ = ["interruption", "pass_interruption"]

_RAISE = frozenset(dis.opmap[name] for name in ("RAISE_VARARGS", "RERAISE") if name in dis.opmap)
# What functions in C raise without arguments.
_BARE = (StopIteration, StopAsyncIteration, MemoryError, queue.Empty)
# Errors are nested a few levels deep. A chain of causes may be a circle.
_LONGEST_CHAIN = 10


def interruption(error: BaseException | None) -> BaseException | None:
    """The exception that interrupted the code which raised ``error``; else None. It is ``error`` itself, what it was
    raised from, or what was on its way when ``error`` was raised, in a ``finally`` block for example."""
    if error is None or error.__traceback__ is None:
        return None
    within = error.__traceback__.tb_frame
    for _ in range(_LONGEST_CHAIN):
        if error is None:
            return None
        if _has_interrupted(error):
            return error
        error = error.__cause__ or error.__context__
        if not _is_of(within, error):
            return None  # the program was handling it when it called us
    return None


def pass_interruption(error: BaseException) -> None:
    """In an ``except`` block: raise what has interrupted the code that raised ``error``, if anything has."""
    interrupting = interruption(error)
    if interrupting is not None:
        raise interrupting


def _has_interrupted(error: BaseException) -> bool:
    trace, caller = error.__traceback__, None
    if trace is None:
        return False
    while True:
        if caller is not None and _was_given(trace.tb_frame, caller):
            return True
        if trace.tb_next is None:
            break
        caller, trace = trace.tb_frame, trace.tb_next
    return not _is_raised_at(trace) and not isinstance(error, _BARE) and _needs_no_arguments(error)


def _is_of(caller: FrameType, error: BaseException | None) -> bool:
    """True if the error was raised in this frame or in one that it called."""
    trace = error.__traceback__ if error is not None else None
    frame = trace.tb_frame if trace is not None else None
    while frame is not None and frame is not caller:
        frame = frame.f_back
    return frame is not None


def _was_given(frame: FrameType, caller: FrameType) -> bool:
    """True if the caller's frame is an argument of the function that runs in ``frame``, or the function is installed
    as the handler of a signal."""
    code = frame.f_code
    for name in code.co_varnames[: _argument_count(code)]:
        value = frame.f_locals.get(name)
        if value is caller or (type(value) is tuple and any(part is caller for part in value)):
            return True
    return any(_code_of(signal.getsignal(number)) is code for number in signal.valid_signals())


def _argument_count(code: CodeType) -> int:
    return code.co_argcount + code.co_kwonlyargcount + bool(code.co_flags & inspect.CO_VARARGS)


def _code_of(handler: Any) -> CodeType | None:
    handler = getattr(handler, "__func__", handler)
    return handler.__code__ if isinstance(handler, FunctionType) else None


def _is_raised_at(trace: TracebackType) -> bool:
    instructions, at = trace.tb_frame.f_code.co_code, trace.tb_lasti
    return 0 <= at < len(instructions) and instructions[at] in _RAISE


def _needs_no_arguments(error: BaseException) -> bool:
    """True if its class alone makes such an exception."""
    if not error.args:
        return True
    made_by = type(error).__init__
    if not isinstance(made_by, FunctionType):
        return False  # a built-in class, made alone, has no arguments
    try:
        inspect.signature(made_by).bind(error)
    except (TypeError, ValueError):
        return False
    return True
