"""Odd data from triggers, for which the guard makes no difference."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from azure_host import triggers
from azure_host.deployment import Deployments, root_of
from azure_host.installation import needs_runtime

pytestmark = needs_runtime
NO_TEXT = {"bytes": base64.b64encode(b"\xff\xfe\x00order").decode()}
BIG = "x" * 200_000
EVENTS = triggers.event_hub_batch(["one", "two"])
MESSAGES = triggers.service_bus_batch(["one", "two"])


def without(fired: Any, *names: str) -> Any:
    data, metadata = fired
    return data, {name: value for name, value in metadata.items() if name not in names}


ODD: dict[str, tuple[str, Any]] = {
    "queue: no text": ("queue", (NO_TEXT, triggers.queue("")[1])),
    "queue: empty": ("queue", triggers.queue("")),
    "queue: no metadata": ("queue", ({"string": "one"}, {})),
    "queue: big": ("queue", triggers.queue(BIG)),
    "queue: JSON that is none": ("queue", triggers.queue('{"a": ')),
    "queue: a surrogate": ("queue", triggers.queue('"\\ud800"')),
    "queue: a count that is none": ("queue", ({"string": "1"}, {"DequeueCount": {"json": "null"}})),
    "service bus: nothing": ("service_bus", ({}, triggers.service_bus("")[1])),
    "service bus: no text": ("service_bus", (NO_TEXT, triggers.service_bus("")[1])),
    "service bus: properties of every kind": (
        "service_bus", ({"string": "one"}, {
            **triggers.service_bus("")[1],
            "ApplicationProperties": {"json": json.dumps({"traceparent": 7, "baggage": ["a"], "x": None})},
        })),
    "service bus: bare": ("service_bus", ({"string": "one"}, {"UserProperties": {"json": "{}"}})),
    "service bus: many without ids": ("service_bus_batch", without(MESSAGES, "MessageIdArray", "LockTokenArray")),
    "service bus: many, but none": ("service_bus_batch", triggers.service_bus_batch([])),
    "event hub: no text": ("event_hub", (NO_TEXT, triggers.event_hub("")[1])),
    "event hub: no context": ("event_hub", without(triggers.event_hub("one"), "PartitionContext", "Properties")),
    "event hub: many without context": ("event_hub_batch", without(EVENTS, "PartitionContext", "PropertiesArray")),
    "event hub: many, but none": ("event_hub_batch", triggers.event_hub_batch([])),
    "event hub: many, big": ("event_hub_batch", triggers.event_hub_batch([BIG] * 5)),
    "event hub: IoT": ("event_hub_batch", ({"json": '[{"a": 1}, {"a": 2}]'}, EVENTS[1])),
    "event grid: bare": ("event_grid", ({"json": "{}"}, {})),
    "event grid: a cloud event": ("event_grid", ({"json": json.dumps({
        "specversion": "1.0", "id": "c1", "source": "/shop", "type": "placed", "data": {"a": 1}, "traceparent": 7,
    })}, {})),
    "event grid: a list": ("event_grid", ({"json": "[]"}, {})),
    "blob: empty": ("blob", ({"bytes": ""}, {})),
    "blob: text without metadata": ("blob", ({"string": "one"}, {})),
    "blob: no text": ("blob", (NO_TEXT, triggers.blob("")[1])),
    "cosmos: none": ("cosmos", triggers.cosmos([])),
    "cosmos: null": ("cosmos", ({"json": "[null, {\"body\": \"two\"}]"}, {})),
    "cosmos: one": ("cosmos", ({"json": '{"id": "7", "body": "one"}'}, {})),
    "timer: bare": ("timer", ({"json": "{}"}, {})),
    "timer: none": ("timer", ({"json": "null"}, {})),
    "generic: bytes": ("generic", (NO_TEXT, {})),
    "generic: nothing": ("generic", ({}, {})),
    "http: bare": ("http", ({"http": {}}, {})),
    "http: no URL": ("http", triggers.http("", "not a URL at all", route={"order": "7"})),
    "http: no text": ("http", ({"http": {
        "method": "POST", "url": "https://shop/api/ask/7?a=%ff", "params": {"order": "7"}, "body": NO_TEXT,
        "headers": {"content-type": "text/plain; charset=klingon"},
    }}, {})),
    "http: JSON that is none": ("http", triggers.http("POST", route={"order": "7"}, body='{"a": ')),
    "http: headers that are none": ("http", triggers.http("GET", route={"order": "7"}, headers={
        "traceparent": "zz", "baggage": "braintrust.parent=%%%,=,;;", "content-length": "many",
    })),
    "http: a parent that is none": ("http", triggers.http("GET", route={"order": "7"}, headers={
        "traceparent": f"00-{'0' * 32}-{'0' * 16}-01", "baggage": "braintrust.parent=project_name%3A",
    })),
    "http: big": ("http", triggers.http("POST", route={"order": "7"}, body=BIG)),
    "http: deep": ("http", triggers.http("POST", route={"order": "7"}, body="[" * 5000)),
}


@pytest.mark.parametrize("case", ODD)
def test_the_guard_makes_no_difference(deploy: Deployments, case: str) -> None:
    """A function gets odd data as without the guard, its result is a closed trace, and the guard logs no fault."""
    function, fired = ODD[case]
    plain, _ = deploy("azure_triggers", GUARDED="no").invoke(function, fired)
    app = deploy("azure_triggers")
    said = len(app.host.log)
    answer, rows = app.invoke(function, fired)
    assert (answer.ok, answer.value, answer.error) == (plain.ok, plain.value, plain.error)
    assert "trace-guard: could not" not in app.host.log[said:], app.host.log[said:]
    if rows or plain.ok:  # the worker may have refused the data without a call of the function
        root_of(rows)
    assert app.server.open_spans() == []
