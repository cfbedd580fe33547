"""Reads of a trigger's value what is there, whatever is there instead of it. None of this raises."""

from __future__ import annotations

import contextlib
import datetime
import json
from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.propagation import Carrier
from trace_guard.payload import CUT

__all__ = [
    "LOOKED_AT", "Carrier", "attribute", "carrier_in", "content_of", "mapping", "number", "parsed", "text",
    "text_in", "time_of",
]

LOOKED_AT = 100
"""How many messages of a batch are looked at: what is said of the whole is said by these."""

_FIELDS = frozenset({"traceparent", "tracestate", "baggage"})
# What the clients of Service Bus and Event Hubs wrote before they wrote ``traceparent``; it has the same form.
_DIAGNOSTIC_ID = "diagnostic-id"
_LONGEST_TEXT = 1024
_LONGEST_FIELD = 8192  # https://www.w3.org/TR/baggage/#limits
_TRACEPARENT = frozenset("0123456789abcdef-")


def attribute(value: Any, name: str) -> Any:
    """An attribute, which may be a property that raises; None if it can't be had."""
    with contextlib.suppress(Exception):
        return getattr(value, name, None)
    return None


def mapping(value: Any) -> Mapping[Any, Any]:
    """The value if it is a mapping, or the JSON of one, else an empty one."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, str) and value[:1] == "{":
        with contextlib.suppress(ValueError, RecursionError):
            return mapping(json.loads(value))
    return {}


def text(value: Any) -> str | None:
    """The value if it is a string that says something, cut at what an id or a name may take."""
    if isinstance(value, bytes):
        value = value[:_LONGEST_TEXT].decode(errors="replace")
    return value[:_LONGEST_TEXT] if isinstance(value, str) and value else None


def number(value: Any) -> int | None:
    """The value if it is a whole number, also one written in a string."""
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def time_of(value: Any) -> str | None:
    """A time as text."""
    if isinstance(value, datetime.datetime):
        return value.isoformat()
    return text(value)


def content_of(body: Any, room: int) -> Any:
    """A body as what it holds: the value of JSON, else text, else its size only."""
    found, is_cut = body, False
    if isinstance(body, (bytes, bytearray, memoryview)):
        is_cut = len(body) > room
        found = text_in(body, room)
        if found is None:
            return f"<{len(body)} bytes>"
    if not isinstance(found, str):
        return found
    if is_cut or len(found) > room:
        return f"{found[:room]} {CUT}"
    return parsed(found)


def text_in(body: bytes | bytearray | memoryview, room: int) -> str | None:
    """The text that a body begins with, of so many bytes; None if it is no text."""
    plain = bytes(body[:room])
    try:
        return plain.decode()
    except UnicodeDecodeError as error:
        # A character that ends beyond the room is none that is wrong.
        cut_through = error.reason == "unexpected end of data" and len(body) > room
        return plain[: error.start].decode() if cut_through else None


def parsed(body: str) -> Any:
    """The value that a text is the JSON of; the text if it is none."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body)
    return body


def carrier_in(properties: Any) -> Carrier:
    """The trace context among headers or properties, whose names and values may be bytes."""
    found: dict[str, str] = {}
    for key, value in mapping(properties).items():
        name = (text(key) or "").lower()
        if name in _FIELDS or name == _DIAGNOSTIC_ID:
            said = value.decode("latin-1") if isinstance(value, bytes) else value
            if isinstance(said, str) and said and len(said) <= _LONGEST_FIELD:
                found[name] = said
    known = found.pop(_DIAGNOSTIC_ID, None)
    if known is not None:
        found.setdefault("traceparent", known)
    return found if _is_traceparent(found.get("traceparent", "")) else {}


def _is_traceparent(value: str) -> bool:
    """https://www.w3.org/TR/trace-context/#traceparent-header-field-values"""
    return (
        len(value) == 55 and value[2] == value[35] == value[52] == "-" and value.count("-") == 3
        and _TRACEPARENT.issuperset(value)
    )
