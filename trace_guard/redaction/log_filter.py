"""Makes each record of trace-guard's logger fit to be written: one printable line, without credentials, and bounded."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable

from .outside_text import cut_middle, printable, printable_lines

__all__ = ["LogFilter"]

_MESSAGE_LIMIT = 4 * 1024
_TRACEBACK_LIMIT = 16 * 1024
# Causes and contexts of an exception that are looked at.
_MOST_CAUSES = 8


class LogFilter(logging.Filter):
    """Lets every record pass, after it has been made safe.

    The message is put together here, as an argument may be an exception or a text of a server. An exception that comes
    with the record, or a cause of it, is replaced if its text is not safe: by one of the same name, with the same
    traceback. So formatters and handlers of any kind have nothing else to write.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - the repr of an argument may raise anything
            message = f"{record.msg} ({type(error).__name__} in its arguments)"
        record.msg, record.args = printable(message, _MESSAGE_LIMIT), None
        given = record.exc_info
        if isinstance(given, tuple) and given[1] is not None:
            fault = given[1]
            safe = _safe(fault)
            record.exc_info = (type(safe), safe, fault.__traceback__)
            text = "".join(traceback.format_exception(type(safe), safe, fault.__traceback__)).rstrip("\n")
            record.exc_text = printable_lines(cut_middle(text, _TRACEBACK_LIMIT), _TRACEBACK_LIMIT)
        return True


def _safe(fault: BaseException, depth: int = 0) -> BaseException:
    """The exception itself if its text and those of its causes are safe, else a copy that is."""
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
    return hasattr(fault, "exceptions")  # a group, whose parts are not looked at one by one


def _copy(kind: type[BaseException], text: str, shown: str) -> BaseException:
    made = type(kind.__name__, (Exception,), {
        "__module__": kind.__module__, "__qualname__": kind.__qualname__, "__str__": lambda _: text,
        "__repr__": lambda _: shown,
    })
    found: BaseException = made(text)
    return found


def _text(fault: BaseException, form: Callable[[object], str]) -> str:
    try:
        return form(fault)
    except Exception as error:  # noqa: BLE001 - a user's exception may do anything when it is asked for its text
        return f"<{type(error).__name__} when read>"
