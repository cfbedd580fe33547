"""The descriptions of CloudEvents and of events of the first generation."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import pytest
from cloudevents.http import CloudEvent

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard.rows import Row
from trace_guard_gcf import guard_handler
from trace_guard_gcf.events import background_event, chosen, cloud_event

PUBSUB = "google.cloud.pubsub.topic.v1.messagePublished"
TOPIC = "//pubsub.googleapis.com/projects/p/topics/orders"
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
IN_BRAINTRUST = {"traceparent": TRACEPARENT, "baggage": "braintrust.parent=project_name%3Ap"}


class Context:
    """An event's context as the framework makes it."""

    def __init__(self, event_type: str, resource: Any) -> None:
        self.event_id, self.timestamp = "77", "2026-01-01T00:00:00Z"
        self.event_type, self.resource = event_type, resource


def encoded(text: str | bytes) -> str:
    return base64.b64encode(text.encode() if isinstance(text, str) else text).decode()


def message(data: str, **attributes: str) -> dict[str, Any]:
    return {"message": {"data": data, "messageId": "m1", "attributes": attributes}, "subscription": "s"}


def traced(guard: Guard, backend: MemoryBackend, *args: Any) -> Row:
    guard_handler(lambda *_: None)(*args)
    (row,) = backend.rows()
    return row


def test_a_cloud_event_is_described_by_its_attributes(guard: Guard, backend: MemoryBackend) -> None:
    """The root has the event's type as its name and the event's attributes with OpenTelemetry's names."""
    attributes = {
        "id": "e1", "source": "//storage.googleapis.com/buckets/b", "type": "google.cloud.storage.object.v1.finalized",
        "subject": "objects/o", "time": "2026-01-01T00:00:00Z", "datacontenttype": "application/json",
    }
    row = traced(guard, backend, CloudEvent(attributes, {"name": "o", "token": "x"}))
    assert row["span_attributes"]["name"] == "google.cloud.storage.object.v1.finalized process"
    assert row["input"] == {"name": "o", "token": "[redacted]"}
    for fact in ("trace_guard", "faas.coldstart"):
        row["metadata"].pop(fact)
    assert row["metadata"] == {
        "cloudevents.event_id": "e1", "cloudevents.event_source": "//storage.googleapis.com/buckets/b",
        "cloudevents.event_spec_version": "1.0", "cloudevents.event_subject": "objects/o",
        "cloudevents.event_time": "2026-01-01T00:00:00Z",
        "cloudevents.event_type": "google.cloud.storage.object.v1.finalized", "faas.trigger": "datasource",
    }


def test_a_message_of_pubsub_is_readable_and_without_secrets(guard: Guard, backend: MemoryBackend) -> None:
    """A message is logged as the text in its base64, with secrets redacted, and has its topic."""
    event = CloudEvent({"source": TOPIC, "type": PUBSUB}, message(encoded(json.dumps({"n": 1, "password": "x"}))))
    row = traced(guard, backend, event)
    assert json.loads(row["input"]["message"]["data"]) == {"n": 1, "password": "[redacted]"}
    assert event.data["message"]["data"] == encoded(json.dumps({"n": 1, "password": "x"}))
    found = {key: value for key, value in row["metadata"].items() if key.startswith(("messaging.", "faas.trigger"))}
    assert found == {
        "messaging.system": "gcp_pubsub", "messaging.operation.type": "process", "faas.trigger": "pubsub",
        "messaging.destination.name": "orders", "messaging.message.id": "m1",
    }


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        (encoded("plain"), "plain"),
        (encoded(b"\xff\xfe\xfd"), "<4 characters of base64>"),
        ("no base64!", "<10 characters of base64>"),
        (encoded("ä" * 100), f"{'ä' * 15} [cut by trace-guard]"),
        ("", ""),
    ],
)
def test_long_and_binary_messages(data: str, shown: str) -> None:
    """Only the beginning of a long message is decoded, and a binary message is logged by its size."""
    event = cloud_event(CloudEvent({"source": TOPIC, "type": PUBSUB}, message(data)), byte_limit=28)
    assert event.input["message"]["data"] == shown


@pytest.mark.parametrize("resource", ["projects/p/topics/orders", {
    "service": "pubsub.googleapis.com", "name": "projects/p/topics/orders", "type": "t"
}], ids=["text", "object"])
def test_an_event_of_the_first_generation_is_described_like_a_cloud_event(
    guard: Guard, backend: MemoryBackend, resource: Any
) -> None:
    """Data and context of the first generation are described like a CloudEvent."""
    data = {"data": encoded("hi"), "attributes": {}}
    row = traced(guard, backend, data, Context("google.pubsub.topic.publish", resource))
    assert row["span_attributes"]["name"] == "google.pubsub.topic.publish process"
    assert row["input"] == {"data": "hi", "attributes": {}}
    assert row["metadata"]["cloudevents.event_id"] == "77"
    assert row["metadata"]["cloudevents.event_source"].endswith("projects/p/topics/orders")
    assert row["metadata"]["messaging.destination.name"] == "orders"
    assert row["metadata"]["faas.trigger"] == "pubsub"


@pytest.mark.parametrize(
    ("event_type", "trigger"),
    [
        (PUBSUB, "pubsub"),
        ("google.cloud.storage.object.v1.deleted", "datasource"),
        ("google.cloud.firestore.document.v1.written", "datasource"),
        ("providers/cloud.firestore/eventTypes/document.write", "datasource"),
        ("google.firebase.database.ref.v1.updated", "datasource"),
        ("google.cloud.scheduler.job.v1.executed", "timer"),
        ("google.cloud.audit.log.v1.written", "other"),
        ("com.example.order", "other"),
    ],
)
def test_the_trigger_follows_from_the_type(event_type: str, trigger: str) -> None:
    """The event's type decides its ``faas.trigger``."""
    assert cloud_event(CloudEvent({"source": "/s", "type": event_type}, {}), byte_limit=100).trigger == trigger


def test_the_parent_is_the_one_in_braintrust() -> None:
    """Among the trace contexts of an event, the context with a Braintrust parent is used, wherever it is."""
    foreign = {"traceparent": TRACEPARENT.replace("b7", "c7")}
    in_message = message("", googclient_traceparent=TRACEPARENT, baggage=IN_BRAINTRUST["baggage"])
    event = cloud_event(CloudEvent({"source": TOPIC, "type": PUBSUB, **foreign}, in_message), byte_limit=100)
    assert event.carriers == (foreign, IN_BRAINTRUST)
    assert chosen((*event.carriers, {})) == IN_BRAINTRUST
    assert chosen((foreign, {})) == foreign
    assert chosen(({}, {})) is None


class Newer:
    """An event as in version 2 of the CloudEvents SDK."""

    def get_attributes(self) -> dict[str, Any]:
        time = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
        return {"id": "e1", "type": "order.placed", "source": "//shop", "specversion": "1.0", "time": time}

    def get_data(self) -> bytes:
        return b"\x00\x01"


def test_newer_and_binary_events(guard: Guard, backend: MemoryBackend) -> None:
    """An event with a time object and binary data is described too."""
    row = traced(guard, backend, Newer())
    assert row["metadata"]["cloudevents.event_time"] == "2026-01-01T00:00:00+00:00"
    assert row["input"] == "<2 bytes>"


@pytest.mark.parametrize("data", [None, 5, "text", [], {"message": 5}, {"message": {"data": 5, "attributes": 7}}, {
    "message": {"attributes": {"traceparent": 5, "googclient_traceparent": None}}
}])
def test_odd_data_does_no_harm(data: Any) -> None:
    """Any data of an event is described as far as possible."""
    event = cloud_event(CloudEvent({"source": TOPIC, "type": PUBSUB}, data), byte_limit=100)
    assert (event.name, event.input) == (f"{PUBSUB} process", data)
    assert not any(event.carriers)
    assert background_event(data, Context("google.pubsub.topic.publish", None), byte_limit=100).input == data
