"""Makes untrusted text safe for log lines, error messages, terminals and dead letters.

Text of servers, proxies, exceptions, files and span names is untrusted: it may hold credentials, forge log lines,
send control sequences to a terminal, or be megabytes long. All of it goes through :func:`printable` before it is
written.
"""

from __future__ import annotations

import contextlib
import sys

from ..system.interruption import pass_interruption
from .elements import redact_elements
from .known_keys import without_known_keys
from .named_values import redact_named
from .secret_keys import is_secret_key
from .shapes import redact_keys, redact_schemes
from .urls import redact_userinfo

__all__ = ["cut_middle", "print_error", "printable", "printable_lines", "without_credentials"]

_LIMIT = 2000
# The most characters that are read. This is far more than is kept, so that a kept credential is never incomplete.
_MOST_READ = 64 * 1024
_LONGEST_WORD = 4096
_DELIMITERS = " \t\r\n\"'<>`"


def printable(text: object, limit: int = _LIMIT, *, mark: str | None = None) -> str:
    """The text on one line of at most about ``limit`` characters, without credentials and with unprintable characters
    escaped.

    Never raises. The time is linear in the length of the text.

    Args:
        mark: replaces each unprintable character, instead of an escape.
    """
    return cut_middle(_escaped(_clean(text), mark), limit)


def printable_lines(text: object, limit: int = _LIMIT) -> str:
    """Like :func:`printable`, but keeps line breaks and tabs, for tracebacks."""
    lines = _clean(text).split("\n")
    return cut_middle("\n".join("\t".join(map(_escaped, line.split("\t"))) for line in lines), limit)


def cut_middle(text: str, limit: int) -> str:
    """The text, or its beginning and end with the number of characters cut between them. The end of an error is
    often the most useful part."""
    if len(text) <= limit:
        return text
    head = max(0, limit) * 3 // 4
    tail = max(0, limit) - head
    return f"{text[:head]}[... {len(text) - limit} characters cut by trace-guard ...]{text[len(text) - tail :]}"


def print_error(text: object) -> None:
    """Write one line that begins with ``trace-guard:`` to stderr, unless stderr is closed or missing."""
    stream = sys.stderr
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"trace-guard: {printable(text)}", file=stream, flush=True)


def _clean(text: object) -> str:
    try:
        text = text if isinstance(text, str) else str(text)
    except Exception as error:  # noqa: BLE001 - a user's exception may raise anything from __str__
        pass_interruption(error)
        return f"<{type(error).__name__} when read>"
    return without_credentials(_beginning(text))


def without_credentials(text: str) -> str:
    """The text without recognisable credentials."""
    text = redact_elements(without_known_keys(text), is_secret_key)
    return redact_keys(redact_schemes(redact_userinfo(redact_named(text, is_secret_key))))


def _beginning(text: str) -> str:
    """The part of the text that is read. A word that continues beyond it is left out, as it may be part of a
    credential."""
    if len(text) <= _MOST_READ:
        return text
    head = text[:_MOST_READ]
    end = max(head.rfind(letter, _MOST_READ - _LONGEST_WORD) for letter in _DELIMITERS)
    kept = head[: end if end > 0 else _MOST_READ - _LONGEST_WORD]
    return f"{kept}[... {len(text) - len(kept)} characters cut by trace-guard ...]"


def _escaped(text: str, mark: str | None = None) -> str:
    if text.isprintable():
        return text
    if mark is not None:
        return "".join(letter if letter.isprintable() else mark for letter in text)
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape", "surrogatepass").decode() for letter in text
    )
