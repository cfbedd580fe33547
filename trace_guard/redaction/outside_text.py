"""Text from outside, made fit for a log line, an error message, a terminal or a dead letter.

Servers, proxies, exceptions, files and names of spans are outside text: it may hold credentials, forge log lines,
steer a terminal or be megabytes long. Every such text goes through :func:`printable` before it is written anywhere.
"""

from __future__ import annotations

import contextlib
import sys

from .known_keys import without_known_keys
from .named_values import redact_named
from .secret_keys import is_secret_key
from .shapes import redact_keys, redact_schemes
from .urls import redact_userinfo

__all__ = ["cut_middle", "print_error", "printable", "printable_lines", "without_credentials"]

_LIMIT = 2000
# What is read of a text: far more than is ever kept, so that a credential is not cut in two where it shows.
_MOST_READ = 64 * 1024
_LONGEST_WORD = 4096
_DELIMITERS = " \t\r\n\"'<>`"


def printable(text: object, limit: int = _LIMIT, *, mark: str | None = None) -> str:
    """The text on one line, without credentials, with everything that is not printable escaped, at most about
    ``limit`` characters of it.

    Never raises, and takes time in proportion to the text.

    Args:
        mark: stands in the place of each character that is not printable, instead of its escape.
    """
    return cut_middle(_escaped(_clean(text), mark), limit)


def printable_lines(text: object, limit: int = _LIMIT) -> str:
    """The same, but line breaks and tabs stay: for tracebacks, which are text of several lines."""
    lines = _clean(text).split("\n")
    return cut_middle("\n".join("\t".join(map(_escaped, line.split("\t"))) for line in lines), limit)


def cut_middle(text: str, limit: int) -> str:
    """The text, or its first and its last part and how much was cut between them: the end of an error often says
    more than its beginning."""
    if len(text) <= limit:
        return text
    head = max(0, limit) * 3 // 4
    tail = max(0, limit) - head
    return f"{text[:head]}[... {len(text) - limit} characters cut by trace-guard ...]{text[len(text) - tail :]}"


def print_error(text: object, *, prefix: str = "trace-guard: ") -> None:
    """Write one line to stderr. A stderr that is closed or missing is passed over."""
    stream = sys.stderr
    if stream is not None:
        with contextlib.suppress(OSError, ValueError):
            print(f"{prefix}{printable(text)}", file=stream, flush=True)


def _clean(text: object) -> str:
    try:
        text = text if isinstance(text, str) else str(text)
    except Exception as error:  # noqa: BLE001 - an exception of the user's may do anything when it is asked for its text
        return f"<{type(error).__name__} when read>"
    return without_credentials(_beginning(text))


def without_credentials(text: str) -> str:
    """The text without the credentials that are recognised in it."""
    return redact_keys(redact_schemes(redact_userinfo(redact_named(without_known_keys(text), is_secret_key))))


def _beginning(text: str) -> str:
    """What is read of a text. A word that does not end there is left out, as it may be a part of a credential."""
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
