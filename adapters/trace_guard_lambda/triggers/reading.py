"""Reads the records of Lambda's events. Nothing here raises, whatever JSON value it gets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from trace_guard.invocation.reading import LOOKED_AT, carrier, mapping

from .description import Carrier

__all__ = [
    "ARN",
    "MULTIPLE",
    "attributes_carrier",
    "carriers_of",
    "data_carrier",
    "decoded",
    "first_record",
    "parsed",
    "part_of_arn",
    "records_of",
    "same",
    "sequence",
    "single",
]

ARN = "aws.lambda.event_source.arn"
"""The ARN of an event source. OpenTelemetry has no name for it; this one follows its ``aws.lambda.*``."""

MULTIPLE = "multiple_sources"
"""The source of a batch with several sources, as in
https://opentelemetry.io/docs/specs/semconv/faas/aws-lambda/#sqs-event"""

_EMPTY: Mapping[Any, Any] = MappingProxyType({})
_LONGEST_BODY = 1 << 20  # the largest message of SQS and SNS
_LONGEST_DATA = 1 << 16


def sequence(value: Any) -> Sequence[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, (list, tuple)) else ()


def parsed(body: Any) -> Mapping[Any, Any]:
    """The JSON object in a body, else an empty one."""
    if not isinstance(body, str) or len(body) > _LONGEST_BODY or body[:1].isalnum():
        return _EMPTY
    import json  # the runtime has imported it already

    try:
        return mapping(json.loads(body))
    except (ValueError, RecursionError):
        return _EMPTY


def decoded(value: Any) -> str | None:
    """The text of a list of bytes, signed or not."""
    numbers = sequence(value)
    if not all(isinstance(number, int) for number in numbers):
        return None
    try:
        return bytes(number & 0xFF for number in numbers).decode()
    except UnicodeDecodeError:
        return None


def part_of_arn(arn: str | None, kind: str) -> str | None:
    """The name in an ARN such as ``arn:aws:kinesis:eu-west-1:123456789012:stream/name/consumer/...``."""
    if arn is None or arn == MULTIPLE:
        return arn
    return arn.partition(kind)[2].partition("/")[0] or None


# Records


def records_of(event: Any) -> Sequence[Any]:
    """The records of a batch. EventBridge Pipes send the list itself:
    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-pipes-event-target.html"""
    return sequence(event) or sequence(mapping(event).get("Records"))


def first_record(event: Any) -> Mapping[Any, Any]:
    """The first record that is a mapping and not empty."""
    for record in records_of(event)[:LOOKED_AT]:
        if fields := mapping(record):
            return fields
    return _EMPTY


def same(records: Sequence[Any], read: Callable[[Mapping[Any, Any]], str | None]) -> str | None:
    """The value that all records share: ``MULTIPLE`` if they differ, None if no record has it."""
    values = {value for record in records[:LOOKED_AT] if (value := read(mapping(record))) is not None}
    return MULTIPLE if len(values) > 1 else next(iter(values), None)


def single(value: str | None) -> str | None:
    """A value of :func:`same`, or None if the records differ."""
    return None if value == MULTIPLE else value


# Trace contexts


def attributes_carrier(attributes: Any, key: str) -> Carrier:
    """The trace context among message attributes. Each attribute is an object with its string below ``key``."""
    return carrier({name: mapping(value).get(key) for name, value in mapping(attributes).items()})


def carriers_of(records: Sequence[Any], read: Callable[[Mapping[Any, Any]], Carrier]) -> tuple[Carrier, ...]:
    """The trace context of each of the first 100 records."""
    return tuple([read(mapping(record)) for record in records[:LOOKED_AT]])


def data_carrier(data: Any) -> Carrier:
    """The trace context in a JSON object in base64, as its top-level ``traceparent`` and ``baggage``."""
    if not isinstance(data, str) or not data.startswith("ey") or len(data) > _LONGEST_DATA:
        return {}  # `{"` begins with `ey` in base64
    import binascii

    try:
        body = binascii.a2b_base64(data)
        return carrier(parsed(body.decode())) if b'"traceparent"' in body else {}
    except ValueError:
        return {}
