"""Reads of an event what is there, whatever is there instead of it.

None of this raises for anything that JSON can hold, also with keys that are no strings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .description import Carrier

__all__ = [
    "ARN", "LOOKED_AT", "MULTIPLE", "attributes_carrier", "carrier", "carriers_of", "first_record", "mapping", "number",
    "parsed", "records_of", "same", "sequence", "text",
]

ARN = "aws.lambda.event_source.arn"
"""OpenTelemetry has no name for the ARN of what invoked a function; this one stands beside its ``aws.lambda.*``."""

LOOKED_AT = 100
"""How many records of a batch are looked at: a batch of 10,000 costs no more than one of 100. What is said of a
whole batch (that its records have one source, or one parent) is said by these."""

MULTIPLE = "multiple_sources"
"""Where a batch has several sources; the term is that of
https://opentelemetry.io/docs/specs/semconv/faas/aws-lambda/#sqs-event"""

_EMPTY: Mapping[Any, Any] = MappingProxyType({})
_FIELDS = frozenset({"traceparent", "tracestate", "baggage"})
_LONGEST_TEXT = 1024
_LONGEST_FIELD = 8192  # https://www.w3.org/TR/baggage/#limits
_LONGEST_BODY = 1 << 20  # the largest message of SQS and SNS
_TRACEPARENT = frozenset("0123456789abcdef-")


def mapping(value: Any) -> Mapping[Any, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if type(value) is dict or isinstance(value, Mapping) else _EMPTY


def sequence(value: Any) -> Sequence[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def text(value: Any) -> str | None:
    """The value if it is a string that says something, cut at what an id or a name may take."""
    return value[:_LONGEST_TEXT] if isinstance(value, str) and value else None


def number(value: Any) -> int | None:
    """The value if it is a whole number, also one written in a string, as in SQS's attributes."""
    if isinstance(value, str) and len(value) <= 18 and value.isascii() and value.isdigit():
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63 else None


def parsed(body: Any) -> Mapping[Any, Any]:
    """The object that a body holds as JSON, else an empty one."""
    if not isinstance(body, str) or len(body) > _LONGEST_BODY or body[:1].isalnum():
        return _EMPTY
    import json  # the runtime has it by then

    try:
        return mapping(json.loads(body))
    except (ValueError, RecursionError):
        return _EMPTY


# Records


def records_of(event: Any) -> Sequence[Any]:
    """The records of a batch. EventBridge Pipes hand over the list itself:
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-event-target.html"""
    return sequence(event) or sequence(mapping(event).get("Records"))


def first_record(event: Any) -> Mapping[Any, Any]:
    """The first record that is one."""
    for record in records_of(event)[:LOOKED_AT]:
        if found := mapping(record):
            return found
    return _EMPTY


def same(records: Sequence[Any], read: Callable[[Mapping[Any, Any]], str | None]) -> str | None:
    """What all records say, as far as they say something: ``MULTIPLE`` if they differ, None if none does."""
    said = {found for record in records[:LOOKED_AT] if (found := read(mapping(record))) is not None}
    return MULTIPLE if len(said) > 1 else next(iter(said), None)


# Trace contexts


def carrier(headers: Any) -> Carrier:
    """The trace context among headers, whose values may be lists of strings."""
    found: dict[str, str] = {}
    for name, value in mapping(headers).items():
        field = name.lower() if isinstance(name, str) else ""
        if field in _FIELDS:
            if isinstance(value, (list, tuple)):
                # Several lines of a list-like header are one; of `traceparent` there may be but one.
                value = ",".join(one for one in value if isinstance(one, str))
            if isinstance(value, str) and value and len(value) <= _LONGEST_FIELD:
                found[field] = value
    return found if _is_traceparent(found.get("traceparent", "")) else {}


def attributes_carrier(attributes: Any, key: str) -> Carrier:
    """The trace context among message attributes, each of which is an object with the string below ``key``."""
    return carrier({name: mapping(value).get(key) for name, value in mapping(attributes).items()})


def carriers_of(records: Sequence[Any], read: Callable[[Mapping[Any, Any]], Carrier]) -> tuple[Carrier, ...]:
    """The trace context of each of the first 100 records."""
    return tuple([read(mapping(record)) for record in records[:LOOKED_AT]])


def _is_traceparent(value: str) -> bool:
    """https://www.w3.org/TR/trace-context/#traceparent-header-field-values: what is not of that shape is no id, and
    could be anything."""
    return (
        len(value) == 55 and value[2] == value[35] == value[52] == "-" and value.count("-") == 3
        and _TRACEPARENT.issuperset(value)
    )
