"""Reads the values of Azure's triggers. Nothing here raises, whatever a value turns out to be."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.propagation import Carrier
from trace_guard.invocation.reading import carrier, mapping, text
from trace_guard.payload import CUT

__all__ = ["attribute", "carrier_in", "content_of", "json_mapping", "parsed", "text_in"]

# What the clients of Service Bus and Event Hubs wrote before they wrote ``traceparent``; it has the same form.
_DIAGNOSTIC_ID = "diagnostic-id"


def attribute(value: Any, name: str) -> Any:
    """An attribute, which may be a property that raises; None if it can't be had."""
    with contextlib.suppress(Exception):
        return getattr(value, name, None)
    return None


def json_mapping(value: Any) -> Mapping[Any, Any]:
    """The value if it is a mapping, or the JSON of one, else an empty one."""
    return mapping(parsed(value) if isinstance(value, str) and value[:1] == "{" else value)


def content_of(body: Any, room: int) -> Any:
    """The content of a body: the value of JSON, else text, else only the size."""
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
    """The text in the first ``room`` bytes of a body; None if it is not text."""
    plain = bytes(body[:room])
    try:
        return plain.decode()
    except UnicodeDecodeError as error:
        # A character that is cut by the limit is not an error.
        cut_through = error.reason == "unexpected end of data" and len(body) > room
        return plain[: error.start].decode() if cut_through else None


def parsed(body: str) -> Any:
    """The value of a JSON text; other text unchanged."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body)
    return body


def carrier_in(properties: Any) -> Carrier:
    """The trace context among headers or properties."""
    found = {(text(name) or "").lower(): value for name, value in json_mapping(properties).items()}
    return carrier({"traceparent": found.get(_DIAGNOSTIC_ID), **found})
