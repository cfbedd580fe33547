"""Reads the loosely typed values of events. Nothing here raises, whatever a value turns out to be."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .propagation import Carrier

__all__ = ["LOOKED_AT", "carrier", "known", "mapping", "number", "text", "time_of"]

LOOKED_AT = 100
"""How many records of a batch are examined, so that a batch of 10,000 costs no more than one of 100. A statement about
a whole batch, such as that its records have one source or one parent, rests on these."""

_EMPTY: Mapping[Any, Any] = MappingProxyType({})
_FIELDS = frozenset({"traceparent", "tracestate", "baggage"})
_LONGEST_TEXT = 1024
_LONGEST_FIELD = 8192  # https://www.w3.org/TR/baggage/#limits
_TRACEPARENT = frozenset("0123456789abcdef-")


def mapping(value: Any) -> Mapping[Any, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if type(value) is dict or isinstance(value, Mapping) else _EMPTY


def text(value: Any) -> str | None:
    """The value if it is a string that is not empty, cut at the length of an id or a name. Bytes are decoded."""
    if isinstance(value, bytes):
        value = value[:_LONGEST_TEXT].decode(errors="replace")
    return value[:_LONGEST_TEXT] if isinstance(value, str) and value else None


def number(value: Any) -> int | None:
    """The value if it is an integer of 64 bits, also one that is written in a string."""
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def time_of(value: Any) -> str | None:
    """A time as text. Some SDKs parse times, others pass them on as they came."""
    return value.isoformat() if hasattr(value, "isoformat") else text(value)


def known(facts: Mapping[str, Any]) -> dict[str, Any]:
    """The facts that are not None."""
    return {key: value for key, value in facts.items() if value is not None}


def carrier(headers: Any) -> Carrier:
    """The trace context among headers or properties. Names and values may be bytes, and values lists of strings."""
    found: dict[str, str] = {}
    for name, value in mapping(headers).items():
        field = (text(name) or "").lower()
        if field in _FIELDS:
            if isinstance(value, (list, tuple)):
                # A list-like header may be split over several lines. A second `traceparent` makes it malformed.
                value = ",".join(one for one in value if isinstance(one, str))
            elif isinstance(value, bytes):
                value = value.decode("latin-1")
            if isinstance(value, str) and value and len(value) <= _LONGEST_FIELD:
                found[field] = value
    return found if _is_traceparent(found.get("traceparent", "")) else {}


def _is_traceparent(value: str) -> bool:
    """https://www.w3.org/TR/trace-context/#traceparent-header-field-values. Anything of another shape is no id and
    could be a secret."""
    return (
        len(value) == 55 and value[2] == value[35] == value[52] == "-" and value.count("-") == 3
        and _TRACEPARENT.issuperset(value)
    )
