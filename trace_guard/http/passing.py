"""Reads headers and other values of a request or response, which pass through unchanged.

Servers and applications are looser than their specifications: headers may be an iterator that can be read once, and
text may be bytes, a number or missing. What is read here reaches the other side as it was given.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["pairs_of", "shared", "status_in", "text_of"]


def shared(values: Any) -> tuple[Any, Any]:
    """The values twice, to read and to pass on. Only an iterator is replaced, by two of the same elements."""
    if isinstance(values, Iterator):
        ours, theirs = itertools.tee(values)
        return ours, theirs
    return values, values


def text_of(value: Any) -> str:
    """A value as text; bytes are in Latin-1, as in HTTP."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).decode("latin-1")
    return "" if value is None else str(value)


def pairs_of(headers: Iterable[Any] | None) -> list[tuple[str, str]]:
    """Headers as text, with their names in lower case. What is not a pair is left out."""
    return [
        (text_of(header[0]).lower(), text_of(header[1]))
        for header in headers or () if isinstance(header, (tuple, list)) and len(header) == 2
    ]


def status_in(value: Any) -> int | None:
    """The status in ``200`` or ``"200 OK"``; None without one."""
    digits = text_of(int(value) if isinstance(value, int) else value)[:3]
    return int(digits) if digits.isascii() and digits.isdecimal() else None
