"""Triggers of every kind, fired at functions in Microsoft's runtime."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
from azure_host import triggers
from azure_host.deployment import Deployments, outcome_of, root_of
from azure_host.installation import needs_runtime

from trace_guard.rows import Row

pytestmark = needs_runtime


class Kind(NamedTuple):
    """A kind of trigger.

    Attributes:
        function: a function of the app ``azure_triggers``, which also has an ``_async`` variant.
        fire: makes the trigger's data from a body.
        value: the function's result.
        trigger: its ``faas.trigger``.
        metadata: further metadata of the message.
    """

    function: str
    fire: Callable[[str], Any]
    value: Callable[[str], Any]
    trigger: str
    metadata: dict[str, Any]


def seen_as(name: str) -> Callable[[str], Any]:
    return lambda body: {"type": name, "body": body}


KINDS = [
    Kind("timer", lambda body: triggers.timer(past_due=body == "raise"),
         lambda body: {"type": "TimerRequest", "body": ""}, "timer", {"azure.functions.timer.past_due": False}),
    Kind("queue", lambda body: triggers.queue(body, dequeue_count=2), seen_as("QueueMessage"), "pubsub",
         {"messaging.message.id": "m1", "azure.storage.queue.dequeue_count": 2}),
    Kind("service_bus", lambda body: triggers.service_bus(body, delivery_count=3), seen_as("ServiceBusMessage"),
         "pubsub", {"messaging.message.id": "sb1", "messaging.servicebus.message.delivery_count": 3,
                    "azure.servicebus.sequence_number": 7}),
    Kind("event_hub", triggers.event_hub, seen_as("EventHubEvent"), "pubsub",
         {"messaging.destination.partition.id": "2", "azure.eventhubs.offset": "96",
          "azure.eventhubs.sequence_number": 5}),
    Kind("event_grid", triggers.event_grid, seen_as("EventGridEvent"), "pubsub",
         {"cloudevents.event_id": "g1", "cloudevents.event_type": "Order.Placed",
          "cloudevents.event_subject": "orders/7"}),
    Kind("blob", triggers.blob, seen_as("InputStream"), "datasource",
         {"faas.document.name": "incoming/order.json", "azure.storage.blob.length": 3}),
    Kind("cosmos", lambda body: triggers.cosmos([{"id": "7", "body": body}]), seen_as("DocumentList"), "datasource",
         {"azure.cosmosdb.document_count": 1, "db.namespace": "shop"}),
    Kind("generic", triggers.generic, seen_as("str"), "pubsub", {"messaging.system": "kafka"}),
]
FUNCTIONS = [(kind, kind.function + suffix) for kind in KINDS for suffix in ("", "_async")]


@pytest.mark.parametrize(("kind", "function"), FUNCTIONS, ids=[function for _, function in FUNCTIONS])
def test_a_trigger_of_this_kind(deploy: Deployments, kind: Kind, function: str) -> None:
    """A function with this trigger gets the same value as without the guard, and its closed root describes the
    trigger. An exception reaches the host and the root."""
    app = deploy("azure_triggers")
    answer, rows = app.invoke(function, kind.fire("one"))
    assert (answer.error, answer.value) == ("", kind.value("one"))
    root = root_of(rows)
    said = root["metadata"]
    assert (root["span_attributes"]["name"], outcome_of(root)) == (function, "ok")
    assert root["output"] == answer.value
    assert said["faas.trigger"] == kind.trigger
    assert said["faas.invocation_id"] == answer.invocation_id
    assert {name: said.get(name) for name in kind.metadata} == kind.metadata

    answer, rows = app.invoke(function, kind.fire("raise"))
    root = root_of(rows)
    assert (answer.ok, answer.error) == (False, "LookupError: no such order")
    assert outcome_of(root) == "error"
    assert root["error"].rstrip().endswith("LookupError: no such order")
    assert f"in {function}" in root["error"]


BATCHES = {
    "service_bus_batch": (triggers.service_bus_batch, "ServiceBusMessage"),
    "event_hub_batch": (triggers.event_hub_batch, "EventHubEvent"),
    "event_hub_batch_async": (triggers.event_hub_batch, "EventHubEvent"),
}


@pytest.mark.parametrize("function", BATCHES)
def test_a_batch(deploy: Deployments, function: str) -> None:
    """A guarded loop over a list of messages has a span for each message below the root, with the body's spans below
    it. An exception is recorded on the message that raised it."""
    fire, kind = BATCHES[function]
    app = deploy("azure_triggers")
    answer, rows = app.invoke(function, fire(["one", "two", "three"]))
    assert (answer.error, answer.value) == ("", {"type": kind, "body": ["one", "two", "three"]})
    root = root_of(rows)
    messages = [row for row in rows if row["span_parents"] == [root["span_id"]]]
    assert [outcome_of(root), len(messages)] == ["ok", 3]
    for body, message in zip(["one", "two", "three"], by_start(messages), strict=True):
        (work,) = [row for row in rows if row["span_parents"] == [message["span_id"]]]
        assert work["span_attributes"]["name"] == f"work on {body}"
        assert message["metrics"]["end"] >= work["metrics"]["end"]
        assert body in str(message["input"])

    answer, rows = app.invoke(function, fire(["one", "raise", "three"]))
    root = root_of(rows)
    assert answer.error == "LookupError: no such order"
    assert outcome_of(root) == "error"
    first, second = by_start([row for row in rows if row["span_parents"] == [root["span_id"]]])
    assert "error" not in first
    assert "LookupError: no such order" in second["error"]


def by_start(rows: list[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: float(row["metrics"]["start"]))


def test_a_batch_is_a_list(deploy: Deployments) -> None:
    """Any operation on a list of messages works as without the guard."""
    answers = [
        deploy("azure_triggers", **env).invoke("event_hub_batch_at_once", triggers.event_hub_batch(["a", "b", "c"]))[0]
        for env in ({}, {"GUARDED": "no"})
    ]
    assert answers[0].value is not None
    assert (answers[0].value, answers[0].error) == (answers[1].value, answers[1].error)


def test_a_loop_that_is_left(deploy: Deployments) -> None:
    """A guarded loop over messages that ends early leaves no span open and has none for messages that it did not
    reach."""
    answer, rows = deploy("azure_triggers").invoke(
        "event_hub_batch_left", triggers.event_hub_batch(["one", "two", "three"])
    )
    assert answer.value == "two"
    assert len(rows) == 3
    assert all(row["metrics"]["end"] and "error" not in row for row in rows)


def test_the_root_has_the_apps_metadata(deploy: Deployments) -> None:
    """A trace has its app, function and instance in OpenTelemetry's terms, and the first is marked as a cold start."""
    app = deploy("azure_triggers", FRESH="yes")
    answer, rows = app.invoke("queue", triggers.queue("one"))
    said = root_of(rows)["metadata"]
    expected = {
        "cloud.provider": "azure", "cloud.platform": "azure_functions", "cloud.region": "West Europe",
        "faas.name": "shop/queue", "faas.instance": "instance-1", "faas.coldstart": True, "faas.trigger": "pubsub",
        "faas.invocation_id": answer.invocation_id,
    }
    assert {name: said.get(name) for name in expected} == expected
    site = "/resourceGroups/group/providers/Microsoft.Web/sites/shop/functions/queue"
    assert said["cloud.resource_id"].endswith(site)
    assert root_of(app.invoke("queue", triggers.queue("one"))[1])["metadata"]["faas.coldstart"] is False
