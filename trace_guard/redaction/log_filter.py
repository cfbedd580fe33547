"""Makes the records of trace-guard's logger safe: one printable line of bounded length, without credentials, that
begins with ``trace-guard:``."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from ..system.interruption import pass_interruption
from .outside_text import cut_middle, printable, printable_lines

__all__ = ["LogFilter"]

# A log line has no logger's name by default, and must say who speaks.
_SPEAKER = "trace-guard: "
_MESSAGE_LIMIT = 4 * 1024
_TRACEBACK_LIMIT = 16 * 1024
# How many causes and contexts of an exception are checked.
_MOST_CAUSES = 8


class LogFilter(logging.Filter):
    """Makes each record safe and lets it pass.

    The filter formats the message itself, since an argument may be an exception or a server's text. If the text of
    the record's exception, or of one of its causes, is not safe, a copy of the exception with the same name and
    traceback replaces it. Formatters and handlers then have nothing unsafe to write.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - the repr of an argument may raise anything
            pass_interruption(error)
            message = f"{record.msg} ({type(error).__name__} in its arguments)"
        message = printable(message, _MESSAGE_LIMIT)
        record.msg, record.args = message if message.startswith(_SPEAKER) else f"{_SPEAKER}{message}", None
        given = record.exc_info
        if isinstance(given, tuple) and given[1] is not None:
            fault = given[1]
            safe = _safe(fault)
            record.exc_info = (type(safe), safe, fault.__traceback__)
            text = "".join(traceback.format_exception(type(safe), safe, fault.__traceback__)).rstrip("\n")
            record.exc_text = printable_lines(cut_middle(text, _TRACEBACK_LIMIT), _TRACEBACK_LIMIT)
        return True


def _safe(fault: BaseException, depth: int = 0) -> BaseException:
    """The exception itself if its text and its causes are safe, else a safe copy."""
    text, shown = _text(fault, str), _text(fault, repr)
    cause = context = None
    if depth < _MOST_CAUSES:
        cause = None if fault.__cause__ is None else _safe(fault.__cause__, depth + 1)
        context = None if fault.__context__ is None else _safe(fault.__context__, depth + 1)
    is_safe = text == printable(text) and shown == printable(shown) and not getattr(fault, "__notes__", None)
    if is_safe and cause is fault.__cause__ and context is fault.__context__ and not _has_parts(fault):
        return fault
    copy = _copy(type(fault), printable(text), printable(shown))
    copy.__cause__, copy.__context__ = cause, context
    copy.__suppress_context__ = fault.__suppress_context__
    return copy.with_traceback(fault.__traceback__)


def _has_parts(fault: BaseException) -> bool:
    return hasattr(fault, "exceptions")  # a group: its parts are not checked one by one


def _copy(kind: type[BaseException], text: str, shown: str) -> BaseException:
    made = type(kind.__name__, (Exception,), {
        "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__str__": lambda _: text,
        "__repr__": lambda _: shown,
    })
    copy: BaseException = made(text)
    return copy


def _text(fault: BaseException, form: Callable[[object], str]) -> str:
    try:
        return form(fault)
    except Exception as error:  # noqa: BLE001 - a user's exception may raise anything from __str__
        pass_interruption(error)
        return f"<{type(error).__name__} when read>"
