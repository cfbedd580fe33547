"""Reads the loosely typed values of events. Nothing here raises, whatever value it gets."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .propagation import Carrier

__all__ = ["LOOKED_AT", "carrier", "known", "mapping", "number", "text", "time_of"]

LOOKED_AT = 100
"""How many records of a batch are examined, so that a batch of 10,000 costs no more than a batch of 100. Facts about a
whole batch, such as a common source or parent, are derived from these records."""

_EMPTY: Mapping[Any, Any] = MappingProxyType({})
_FIELDS = frozenset({"traceparent", "tracestate", "baggage"})
_LONGEST_TEXT = 1024
_LONGEST_FIELD = 8192  # https://www.w3.org/TR/baggage/#limits
_TRACEPARENT = frozenset("0123456789abcdef-")


def mapping(value: Any) -> Mapping[Any, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if type(value) is dict or isinstance(value, Mapping) else _EMPTY


def text(value: Any) -> str | None:
    """The value if it is a string and not empty, cut to the length of an id or a name. Bytes are decoded."""
    if isinstance(value, bytes):
        value = value[:_LONGEST_TEXT].decode(errors="replace")
    return value[:_LONGEST_TEXT] if isinstance(value, str) and value else None


def number(value: Any) -> int | None:
    """The value if it is a 64-bit integer or a string of digits."""
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def time_of(value: Any) -> str | None:
    """A time as text. Some SDKs parse times and others keep them as strings."""
    return value.isoformat() if hasattr(value, "isoformat") else text(value)


def known(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that are not None."""
    return {key: value for key, value in facts.items() if value is not None}


def carrier(headers: Any) -> Carrier:
    """The trace context among headers or properties. Names and values may be bytes, and values lists of strings."""
    fields: dict[str, str] = {}
    for name, value in mapping(headers).items():
        field = (text(name) or "").lower()
        if field in _FIELDS:
            if isinstance(value, (list, tuple)):
                # A list-like header may be split over several lines. A second `traceparent` makes it malformed.
                value = ",".join(part for part in value if isinstance(part, str))
            elif isinstance(value, bytes):
                value = value.decode("latin-1")
            if isinstance(value, str) and value and len(value) <= _LONGEST_FIELD:
                fields[field] = value
    return fields if _is_traceparent(fields.get("traceparent", "")) else {}


def _is_traceparent(value: str) -> bool:
    """True for https://www.w3.org/TR/trace-context/#traceparent-header-field-values. A value of any other form may be a
    secret."""
    return (
        len(value) == 55 and value[2] == value[35] == value[52] == "-" and value.count("-") == 3
        and _TRACEPARENT.issuperset(value)
    )
