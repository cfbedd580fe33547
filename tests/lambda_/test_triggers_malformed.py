"""Malformed events, secrets in events, and the cost of describing them."""

from __future__ import annotations

import base64
import gzip
import json
import random
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from recorded_events import EVENTS, SECRET, TRACED, TRACEPARENT, recorded

from trace_guard import contain as containment
from trace_guard_lambda.triggers import TRIGGERS, Description, describe, parentage

RECORDED = {name: recorded(name) for name in EVENTS}

odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["", "arn:aws:sqs", "\ud800", TRACEPARENT, "x" * 10_000, 10**30]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(max_size=5) | st.integers() | st.none()
        | st.sampled_from(["Records", "requestContext", "headers", "traceparent", "info", "Execution", "records"]),
        inner, max_size=3,
    ),
    max_leaves=8,
)


def described(event: Any) -> None:
    """Check that the event is described in plain JSON without a fault of ours."""
    with containment.raising():
        description = describe(event)
        _, metadata = parentage(description.carriers, description.fallbacks)
    assert isinstance(description, Description)
    assert description.trigger in ("http", "pubsub", "datasource", "timer", "other")
    assert description.name is None or isinstance(description.name, str)
    assert set().union(*description.carriers) <= {"traceparent", "tracestate", "baggage"}
    json.dumps([dict(description.metadata), metadata], allow_nan=False)


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of an event, with each of its keys."""
    for key, value in list(node.items() if isinstance(node, dict) else enumerate(node)):
        yield node, key
        if isinstance(value, (dict, list)):
            yield from places(value)


@settings(deadline=None, max_examples=300, derandomize=True)
@given(st.data())
def test_a_malformed_event_does_no_harm(data: st.DataObject) -> None:
    """An event with missing or wrong parts is described as far as possible."""
    event = json.loads(json.dumps(RECORDED[data.draw(st.sampled_from(EVENTS))]))
    for _ in range(data.draw(st.integers(1, 3))):
        node, key = data.draw(st.sampled_from([*places(event)] or [({}, "a")]))
        if isinstance(node, dict) and data.draw(st.booleans()):
            node.pop(key, None)
        else:
            node[key] = data.draw(odd)
    described(event)


@pytest.mark.parametrize("event", EVENTS)
def test_a_part_that_is_null_or_missing_does_no_harm(event: str) -> None:
    """Each part of each event may be null, a string, a number, a list or missing, one at a time."""
    plain = RECORDED[event]
    for at in range(len([*places(plain)])):
        for value in (None, "text", 7, [], {}, [None], {7: 7}):
            changed = json.loads(json.dumps(plain))
            node, key = [*places(changed)][at]
            node[key] = value
            described(changed)
        if isinstance(node, dict):
            del node[key]
            described(changed)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(odd)
def test_any_value_can_be_an_event(event: Any) -> None:
    """Any value is described as an event without a fault."""
    described(event)


def test_a_deep_event_does_no_harm() -> None:
    """Nesting of any depth, also within a body, does not fail."""
    deep: Any = {}
    for _ in range(5000):
        deep = {"detail": deep, "Records": [deep], "requestContext": deep, "info": deep}
    described(deep)
    body = '{"TopicArn": "Notification", "traceparent": ' + "[" * 100_000
    described({"Records": [{"eventSource": "aws:sqs", "body": body}]})


class Broken(dict[str, Any]):
    """An event that raises whenever it is read."""

    def get(self, *_: Any) -> Any:
        raise RuntimeError("not to be read")


@pytest.mark.parametrize("event", [Broken(a=1), Broken(requestContext={}), {"Records": [Broken(a=1)]}])
def test_an_event_that_raises_is_contained(event: Any, caplog: pytest.LogCaptureFixture) -> None:
    """An object that raises when it is read is reported once and described as far as possible."""
    assert isinstance(describe(event), Description)
    assert "your code is not affected" in caplog.text
    caplog.clear()


@pytest.mark.parametrize("event", EVENTS)
def test_descriptions_have_no_secrets(event: str) -> None:
    """No name or metadata contains values of headers, queries, bodies, claims, attributes or data."""
    description = describe(RECORDED[event])
    _, metadata = parentage(description.carriers)
    assert SECRET not in json.dumps([description.name, dict(description.metadata), metadata])
    assert "secret" not in json.dumps(description.carriers)


def test_the_secret_is_in_the_events() -> None:
    """Every recorded event with a payload contains the secret, so the test above would detect a leak."""
    assert {name for name in EVENTS if SECRET not in json.dumps(RECORDED[name])} == {
        # in base64, or as a list of bytes
        "cloudwatch_logs", "firehose_put", "firehose_sqs", "msk", "msk_batch", "msk_schema", "self_managed_kafka",
        "self_managed_kafka_schema",
        # without a payload
        "s3", "s3_batch", "s3_delete", "s3_in_sns", "s3_in_sqs", "schedule_rule", "schedule_scheduler", "warm_up",
    }


PAYLOADS = {
    "headers", "multiValueHeaders", "queryStringParameters", "multiValueQueryStringParameters", "rawQueryString",
    "cookies", "body", "detail", "Message", "Subject", "messageAttributes", "MessageAttributes", "data", "value",
    "Keys", "NewImage", "OldImage", "arguments", "identity", "userAttributes", "clientMetadata", "userName",
    "parameters", "requestBody", "inputText", "sessionAttributes", "promptSessionAttributes", "Input", "events",
    "authorizationToken", "stageVariables", "partitionKey", "claims", "variables", "stash", "input", "attributes",
}


@pytest.mark.parametrize("event", EVENTS)
def test_malformed_payloads_leak_no_secret(event: str) -> None:
    """The description of a malformed payload or trace context contains nothing of it."""
    for secret in (SECRET, [SECRET], {"traceparent": SECRET, SECRET: SECRET}, {"traceparent": {"Value": SECRET}}):
        changed = json.loads(json.dumps(RECORDED[event]))
        for node, key in [*places(changed)]:
            if key in PAYLOADS:
                node[key] = secret
        description = describe(changed)
        _, metadata = parentage(description.carriers)
        told = json.dumps([description.name, dict(description.metadata), metadata, description.carriers])
        assert SECRET not in told


@pytest.mark.parametrize(
    "value", [SECRET, f"00-{SECRET}", TRACEPARENT.upper(), f"{TRACEPARENT}-{SECRET}", "", None, 5]
)
def test_a_malformed_trace_context_is_ignored(value: Any) -> None:
    """A trace context header with another value is ignored."""
    event = {"requestContext": {"elb": {}}, "headers": {"traceparent": value, "baggage": TRACED["baggage"]}}
    assert describe(event).carriers == ()


def test_headers_in_several_lines_are_one() -> None:
    """Baggage in several lines is joined. Several parents are ignored."""
    lines = {"traceparent": [TRACEPARENT], "baggage": ["a=1", "b=2"]}
    event = {"requestContext": {"elb": {}}, "multiValueHeaders": lines}
    assert describe(event).carriers == ({"traceparent": TRACEPARENT, "baggage": "a=1,b=2"},)
    lines["traceparent"] *= 2
    assert describe(event).carriers == ()


@pytest.mark.parametrize("event", ["sqs", "sns", "kinesis", "dynamodb", "s3", "msk", "appsync_batch"])
def test_a_huge_batch_costs_no_more_than_a_hundred_records(event: str) -> None:
    """Only the first 100 of 10,000 records are examined, and all are counted."""
    huge = json.loads(json.dumps(RECORDED[event]))
    records = huge if isinstance(huge, list) else huge.get("Records") or huge["records"]["orders-0"]
    records *= 10_000 // len(records)
    description = describe(huge)
    assert description.records == 10_000
    assert len(description.carriers) in (0, 100)
    assert fastest(huge) < 0.01


@pytest.mark.parametrize("event", EVENTS)
def test_describing_is_cheap(event: str) -> None:
    """Describing an event takes tens of microseconds. The bound is loose, for a busy machine."""
    assert fastest(RECORDED[event]) < 0.0005


def fastest(event: Any) -> float:
    """The shortest of several measurements, in seconds."""
    took = []
    for _ in range(20):
        began = time.perf_counter()
        describe(event)
        took.append(time.perf_counter() - began)
    return min(took)


def test_every_source_has_an_event() -> None:
    """Each entry of the table has a recorded event, except the entries that are inferred from the context."""
    assert {trigger.source for trigger in TRIGGERS} - {describe(event).source for event in RECORDED.values()} == {
        "agentcore_gateway", "direct"
    }


def packed(logs: Any) -> dict[str, Any]:
    data = gzip.compress(json.dumps(logs).encode())
    return {"awslogs": {"data": base64.b64encode(data).decode()}}


def test_the_head_of_a_large_subscription_event_is_enough() -> None:
    """Only the beginning of megabytes of log events is unpacked."""
    noise = random.Random(7).randbytes(1_000_000).hex()
    head = {"logGroup": "/aws/lambda/checkout", "logStream": "a", "subscriptionFilters": ["f"]}
    description = describe(packed({**head, "logEvents": [{"message": noise}]}))
    assert description.name == "/aws/lambda/checkout process"


@pytest.mark.parametrize(
    "event", [packed([]), packed({"logEvents": []}), packed("x"), {"awslogs": {"data": "H4sI"}}, {"awslogs": None}]
)
def test_a_broken_subscription_event_is_recognised(event: Any) -> None:
    """Log events that can't be unpacked are described as log events without a name."""
    description = describe(event)
    assert (description.source, description.name) == ("cloudwatch_logs", None)
