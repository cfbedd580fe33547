"""Reads the values of Azure's triggers. Nothing here raises, whatever value it gets."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.propagation import Carrier
from trace_guard.invocation.reading import carrier, mapping, text
from trace_guard.payload import CUT

__all__ = ["attribute", "carrier_in", "content_of", "json_mapping", "parsed", "text_in"]

# Older clients of Service Bus and Event Hubs write this property instead of ``traceparent``. It has the same form.
_DIAGNOSTIC_ID = "diagnostic-id"


def attribute(value: Any, name: str) -> Any:
    """An attribute; None if it is missing or is a property that raises."""
    with contextlib.suppress(Exception):
        return getattr(value, name, None)
    return None


def json_mapping(value: Any) -> Mapping[Any, Any]:
    """The value if it is a mapping or the JSON of a mapping, else an empty mapping."""
    return mapping(parsed(value) if isinstance(value, str) and value[:1] == "{" else value)


def content_of(body: Any, byte_limit: int) -> Any:
    """The content of a body: the value of JSON, else text, else only the size."""
    content, is_cut = body, False
    if isinstance(body, (bytes, bytearray, memoryview)):
        is_cut = len(body) > byte_limit
        content = text_in(body, byte_limit)
        if content is None:
            return f"<{len(body)} bytes>"
    if not isinstance(content, str):
        return content
    if is_cut or len(content) > byte_limit:
        return f"{content[:byte_limit]} {CUT}"
    return parsed(content)


def text_in(body: bytes | bytearray | memoryview, byte_limit: int) -> str | None:
    """The text in the first ``byte_limit`` bytes of a body; None if it is not text."""
    plain = bytes(body[:byte_limit])
    try:
        return plain.decode()
    except UnicodeDecodeError as error:
        # The limit may cut a character in two.
        is_cut = error.reason == "unexpected end of data" and len(body) > byte_limit
        return plain[: error.start].decode() if is_cut else None


def parsed(body: str) -> Any:
    """The value of a JSON text. Other text is returned unchanged."""
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(body)
    return body


def carrier_in(properties: Any) -> Carrier:
    """The trace context among headers or properties."""
    fields = {(text(name) or "").lower(): value for name, value in json_mapping(properties).items()}
    return carrier({"traceparent": fields.get(_DIAGNOSTIC_ID), **fields})
