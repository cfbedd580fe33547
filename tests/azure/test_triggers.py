"""The descriptions of the values of all triggers, without a runtime."""

from __future__ import annotations

import base64
import datetime
import json
from typing import Any

import azure.functions as func
import pytest
from azure.functions.kafka import KafkaEvent
from azure.functions.meta import Datum

from trace_guard.payload import CUT, REDACTED
from trace_guard_azure.declaration import NOTHING_DECLARED, Declaration, declared_by
from trace_guard_azure.triggers import Description, trigger_of

ROOM = 65536
TIME = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
CARRIER = {"traceparent": TRACEPARENT, "baggage": "braintrust.parent=project_name%3Ap"}


def described(value: Any, kind: str | None = None, room: int = ROOM, **trigger: Any) -> Description:
    declared = Declaration("f", {"type": kind, "name": "value", **trigger}) if kind else NOTHING_DECLARED
    return trigger_of(declared, value).describe(value, declared, room)


class ServiceBusMessage:
    """A message as in azure.functions and the Service Bus SDK, whose properties may be bytes."""

    message_id, correlation_id, delivery_count, sequence_number = "m1", "c1", 2, 7
    session_id, enqueued_time_utc, body = None, TIME, b'{"n": 1}'

    def __init__(self, properties: Any = None) -> None:
        self.application_properties = properties


def event(number: int, metadata: dict[str, Any]) -> func.EventHubEvent:
    said = {key: Datum(json.dumps(value), "json") for key, value in metadata.items()}
    return func.EventHubEvent(
        body=b"%d" % number, trigger_metadata=said, enqueued_time=TIME, partition_key="p", sequence_number=number,
        offset=str(number),
    )


PARTITION = {"PartitionContext": {"PartitionId": "3", "ConsumerGroup": "$Default"}}
MESSAGING = {"messaging.operation.name": "process", "messaging.operation.type": "process"}


def test_a_request() -> None:
    """A request is described by method, path and size, without its key and without headers except the trace context."""
    headers = {"Content-Type": "application/json", "X-Secret": "s", **CARRIER}
    request = func.HttpRequest(
        "post", "https://shop/api/ask/7?n=1&code=key", headers=headers,
        params={"n": "1", "code": "key"}, route_params={"id": "7"}, body=b'{"n": 1}',
    )
    assert described(request, "httpTrigger") == Description(
        "http",
        {"http.request.method": "POST", "url.path": "/api/ask/7", "azure.functions.trigger.type": "httpTrigger"},
        {"method": "POST", "path": "/api/ask/7", "query": {"n": "1", "code": REDACTED}, "route": {"id": "7"},
         "body": {"n": 1}},
        (CARRIER,),
    )


@pytest.mark.parametrize(("body", "content_type", "shown"), [
    (b"a=1&b=2&b=3", "application/x-www-form-urlencoded", {"a": "1", "b": ["2", "3"]}),
    (b"\xff\xfe", "application/octet-stream", "<2 bytes>"),
    (b"--x--", "multipart/form-data; boundary=x", "<5 bytes of multipart/form-data>"),
    (b"{", "application/json", "{"),
    ("é".encode(), "text/plain", "é"),
    ("é".encode("latin-1"), "text/plain; charset=latin-1", "é"),
    (b"x" * (ROOM + 1), "text/plain", "x" * ROOM),
])
def test_the_body_of_a_request(body: bytes, content_type: str, shown: Any) -> None:
    """A body is logged as its content, or by its size if it is binary or may contain files."""
    request = func.HttpRequest("POST", "/", headers={"Content-Type": content_type}, body=body)
    assert described(request).input["body"] == shown


def test_a_list_of_requests_is_none() -> None:
    """A list that begins with a request is not from an HTTP trigger, and is described without a fault."""
    request = func.HttpRequest("GET", "/", body=b"")
    assert described([request]).trigger == "other"


def test_a_timer() -> None:
    """A timer has its schedule and whether it is late."""
    late = func.timer.TimerRequest(past_due=True, schedule_status={}, schedule={})
    metadata = {
        "faas.cron": "0 0 * * * *", "azure.functions.timer.past_due": True,
        "azure.functions.trigger.type": "timerTrigger",
    }
    expected = Description("timer", metadata, {"past_due": True})
    assert described(late, "timerTrigger", schedule="0 0 * * * *") == expected
    assert described('{"IsPastDue": true}', "timerTrigger", schedule="0 0 * * * *") == expected


def test_a_queue_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message of a storage queue has its id, dequeue count and queue, which may come from an app setting."""
    monkeypatch.setenv("JOBS", "jobs")
    message = func.queue.QueueMessage(id="m1", body='{"n": 1}', dequeue_count=3, insertion_time=TIME)
    metadata = {
        **MESSAGING, "messaging.system": "azure_storage_queue", "messaging.destination.name": "jobs",
        "messaging.message.id": "m1", "azure.storage.queue.dequeue_count": 3,
        "azure.storage.queue.insertion_time": "2026-01-01T00:00:00+00:00",
        "azure.functions.trigger.type": "queueTrigger",
    }
    assert described(message, "queueTrigger", queueName="%JOBS%") == Description("pubsub", metadata, {"n": 1})
    assert described("hello", "queueTrigger").input == "hello"
    assert described(b"\xff", "queueTrigger").input == "<1 bytes>"


@pytest.mark.parametrize("properties", [
    CARRIER, {name.encode(): value.encode() for name, value in CARRIER.items()}, json.dumps(CARRIER),
])
def test_a_service_bus_message(properties: Any) -> None:
    """A Service Bus message has its ids, attempt, topic, subscription and trace context."""
    found = described(
        ServiceBusMessage(properties), "serviceBusTrigger", topicName="orders", subscriptionName="billing"
    )
    assert found == Description("pubsub", {
        **MESSAGING, "messaging.system": "servicebus", "messaging.destination.name": "orders",
        "messaging.destination.subscription.name": "billing", "messaging.message.id": "m1",
        "messaging.message.conversation_id": "c1", "messaging.servicebus.message.delivery_count": 2,
        "messaging.servicebus.message.enqueued_time": "2026-01-01T00:00:00+00:00",
        "azure.servicebus.sequence_number": 7, "azure.functions.trigger.type": "serviceBusTrigger",
    }, {"n": 1}, (CARRIER,))


def test_an_older_trace_context_is_read() -> None:
    """A ``Diagnostic-Id`` of an older client counts as a ``traceparent``, and a malformed one is ignored."""
    assert described(ServiceBusMessage({"Diagnostic-Id": TRACEPARENT})).carriers == ({"traceparent": TRACEPARENT},)
    assert described(ServiceBusMessage({"Diagnostic-Id": "|old.1", "baggage": "a=b"})).carriers == ()


def test_a_batch_of_events() -> None:
    """A batch of Event Hubs has the metadata that its events share, and each event has its own."""
    events = [event(number, {**PARTITION, "PropertiesArray": [CARRIER, {}]}) for number in range(2)]
    found = described(events, "eventHubTrigger", eventHubName="orders")
    assert found == Description("pubsub", {
        **MESSAGING, "messaging.system": "eventhubs", "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "3", "messaging.consumer.group.name": "$Default",
        "messaging.batch.message_count": 2, "azure.functions.trigger.type": "eventHubTrigger",
    }, [0, 1], (CARRIER, {}), events)
    assert trigger_of(NOTHING_DECLARED, events).facts_of_message(events[1]) == {
        "messaging.destination.partition.id": "3", "messaging.consumer.group.name": "$Default",
        "messaging.eventhubs.message.enqueued_time": "2026-01-01T00:00:00+00:00",
        "azure.eventhubs.sequence_number": 1, "azure.eventhubs.offset": "1", "azure.eventhubs.partition_key": "p",
    }
    single = described(event(5, {**PARTITION, "Properties": CARRIER}))
    assert (single.carriers, single.input, single.messages) == ((CARRIER,), 5, None)


def test_messages_share_the_byte_limit() -> None:
    """Each message of a batch gets its share of the byte limit, and at most a hundred are read."""
    found = described(["x" * 5000] * 300, "queueTrigger", room=4096)
    assert found.metadata["messaging.batch.message_count"] == 300
    assert found.input == [f"{'x' * 1024} {CUT}"] * 100


def test_a_kafka_event() -> None:
    """A Kafka event has its partition, offset and key, and the trace context of its headers, in base64 or not."""
    for value in (TRACEPARENT, base64.b64encode(TRACEPARENT.encode()).decode()):
        headers = [{"Key": "traceparent", "Value": value}]
        found = described(KafkaEvent(body=b"b", key="k", offset=4, partition=0, headers=headers), topic="t")
        assert found == Description("pubsub", {
            **MESSAGING, "messaging.system": "kafka", "messaging.destination.partition.id": "0",
            "messaging.kafka.offset": 4, "messaging.kafka.message.key": "k",
        }, "b", ({"traceparent": TRACEPARENT},))


def test_an_event_of_event_grid() -> None:
    """An Event Grid event has the fields of CloudEvents, and the trace context in its data."""
    given = func.EventGridEvent(
        id="e1", data={"n": 1, **CARRIER}, topic="t", subject="s", event_type="Order.Placed", event_time=TIME,
        data_version="1",
    )
    assert described(given, "eventGridTrigger") == Description("pubsub", {
        **MESSAGING, "messaging.system": "eventgrid", "cloudevents.event_id": "e1", "cloudevents.event_source": "t",
        "cloudevents.event_subject": "s", "cloudevents.event_time": "2026-01-01T00:00:00+00:00",
        "cloudevents.event_type": "Order.Placed", "azure.functions.trigger.type": "eventGridTrigger",
    }, {"type": "Order.Placed", "subject": "s", "data": {"n": 1, **CARRIER}}, (CARRIER,))


def test_a_blob_is_not_read() -> None:
    """A blob has its name, container and size. Its content is not read, so that the function can read it."""
    blob = func.blob.InputStream(data=b"content", name="incoming/a.json", length=7, uri="https://b/incoming/a.json")
    found = described(blob, "blobTrigger", path="incoming/{name}")
    assert found.metadata == {
        "faas.document.collection": "incoming", "faas.document.name": "incoming/a.json",
        "azure.storage.blob.path": "incoming/{name}", "azure.storage.blob.length": 7,
        "azure.functions.trigger.type": "blobTrigger",
    }
    assert (found.trigger, found.input["name"]) == ("datasource", "incoming/a.json")
    assert blob.read() == b"content"


def test_documents_of_cosmos_db() -> None:
    """Documents of Cosmos DB are counted, with database and container, and each has its id."""
    documents = func.DocumentList([func.Document.from_dict({"id": "d1"}), func.Document.from_dict({"id": "d2"})])
    found = described(documents, "cosmosDBTrigger", databaseName="shop", containerName="orders")
    assert found.metadata == {
        "db.system.name": "azure.cosmosdb", "db.namespace": "shop", "db.collection.name": "orders",
        "faas.document.collection": "orders", "azure.cosmosdb.document_count": 2,
        "azure.functions.trigger.type": "cosmosDBTrigger",
    }
    assert found.input == [{"id": "d1"}, {"id": "d2"}]
    assert trigger_of(NOTHING_DECLARED, documents).facts_of_message(documents[0]) == {"faas.document.name": "d1"}


@pytest.mark.parametrize("value", [
    json.dumps({"name": "weather", "arguments": {"city": "Paris"}, "transport": {"headers": {"x-functions-key": "k"}}}),
    {"city": "Paris"},
])
def test_a_tool(value: Any) -> None:
    """A tool has its name and the arguments of the call, whether it gets the call or only its arguments, and no
    headers."""
    assert described(value, "mcpToolTrigger", toolName="weather") == Description("other", {
        "gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": "weather",
        "azure.functions.trigger.type": "mcpToolTrigger",
    }, {"city": "Paris"})


class Odd:
    """An object that raises whenever it is read."""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):  # names that pytest reads
            return super().__getattribute__(name)
        raise RuntimeError(name)


@pytest.mark.parametrize("kind", [
    "timerTrigger", "queueTrigger", "serviceBusTrigger", "eventHubTrigger", "eventGridTrigger", "kafkaTrigger",
    "blobTrigger", "cosmosDBTrigger", "sqlTrigger", "warmupTrigger", "rabbitMQTrigger", "mcpToolTrigger",
    "someTrigger",
])
@pytest.mark.parametrize("value", [None, 1, "", "{", b"\xff", [], [None], [Odd()], {}, Odd()])
def test_any_value_is_described(kind: str, value: Any) -> None:
    """Any value of any trigger is described without an exception."""
    assert described(value, kind).metadata["azure.functions.trigger.type"] == kind


def test_reading_a_declaration_does_not_change_it() -> None:
    """Reading a function's declaration does not change the metadata that the host gets."""
    app = func.FunctionApp()

    @app.function_name("named")
    @app.route(methods=["GET"])
    def f(req: func.HttpRequest) -> str:
        return ""

    before = app._function_builders[0]._function.get_raw_bindings()
    declared = declared_by(app._function_builders[0]._function)
    assert (declared.name, declared.kind, declared.parameter, declared.return_type) == (
        "named", "httpTrigger", "req", "http"
    )
    assert app._function_builders[0]._function.get_raw_bindings() == before
