"""Strategies for values that an event, a payload or a row may hold, and for what is worst of each kind."""

from __future__ import annotations

import base64
import json
from typing import Any

from fuzzer import Unprintable
from hypothesis import strategies as st

__all__ = ["SECRET", "json_values", "keys", "objects", "payloads", "texts"]

SECRET = "hunter2-planted-by-the-fuzzer"
KEYS = [
    "Records", "requestContext", "headers", "traceparent", "baggage", "info", "Execution", "records", "body", "data",
    "message", "attributes", "isBase64Encoded", "eventSource", "detail-type", "id", "span_id", "root_span_id",
    "span_parents", "metrics", "start", "end", "metadata", "error", "created", "project_id", "log_id", "_is_merge",
    "format", "pid", "backend", "destination",
]
WORST_TEXTS = [
    "", "\x00", "\ud800", "\u2028", "\\", "'", '"', "{", "[", "[" * 1000, '{"a":' * 500, "token:", "password=",
    "authorization: ", "aws:sqs", "aws:kinesis", "1e400", "NaN", "-", "%", "%7B", "null",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "braintrust.parent=project_name%3Ap",
]

texts = st.text(max_size=30) | st.sampled_from(WORST_TEXTS) | st.builds(
    lambda text, times: text * times, st.sampled_from([*WORST_TEXTS, "a", "é", "token: \\"]), st.integers(2, 2000)
)
numbers = st.integers() | st.floats() | st.sampled_from([0, -1, 10**30, 2**63, 2**64, 1e308, float("inf")])
scalars = st.none() | st.booleans() | numbers | texts
keys = st.sampled_from(KEYS) | st.text(max_size=10)
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=15
)


def _nested(value: Any, depth: int) -> Any:
    for number in range(depth):
        value = [value] if number % 2 else {"a": value}
    return value


def _in_json(value: Any, times: int) -> str:
    try:
        text = json.dumps(value, default=lambda one: str(type(one)))
    except (TypeError, ValueError, RecursionError):  # it holds itself, or is too deep
        text = str(type(value))
    for _ in range(times):
        text = json.dumps({"body": text})
    return text


def _itself(value: Any) -> Any:
    found: list[Any] = [value]
    found.append(found)
    return found


class Large(list[Any]):
    """A list whose copies are large, shown by its size when it is reported."""

    def __repr__(self) -> str:
        return f"<{len(self)} times {self[:1]!r}>" if len(self) > 10 else super().__repr__()


large = st.builds(
    lambda value, times: Large([value]) * times,
    st.sampled_from(["", [], {}, None, 0, "a", {"a": ""}, "token: \\", "=", "&", '"']), st.integers(1, 300_000),
)
large_texts = st.builds(
    lambda start, repeated, times: start + repeated * times,
    st.sampled_from(["", "token: ", '{"password": "', "a=b&token=", "Authorization: Bearer ", "password"]),
    st.sampled_from(["\\", '\\"', "a", " ", "=", "&a=", '{"a":', "[", "%22", "\n", "token: ", ",", "'", "é", "AAAA"]),
    st.integers(1, 300_000),
)
objects = st.recursive(
    scalars | st.binary(max_size=50) | st.dates() | st.uuids() | st.decimals() | st.complex_numbers()
    | st.builds(Unprintable) | st.builds(object) | st.sampled_from([object, len, ...]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys | st.integers() | st.none(), inner, max_size=4)
    | st.tuples(inner, inner) | st.sets(st.integers(), max_size=3) | st.builds(_itself, inner)
    | st.builds(_nested, inner, st.integers(1, 3000)) | st.builds(_in_json, inner, st.integers(0, 4))
    | st.builds(lambda value: base64.b64encode(_in_json(value, 0).encode(errors="replace")).decode(), inner),
    max_leaves=12,
)
payloads = objects | large | large_texts | st.dictionaries(keys, large | large_texts, max_size=2)
