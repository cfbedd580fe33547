"""The data and metadata of a binding that the host sends a worker when a trigger fires.

Each function returns ``(data, metadata)`` as the protocol's JSON (:mod:`messages`), with the fields that the host's
extensions set.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["blob", "cosmos", "event_grid", "event_hub", "event_hub_batch", "generic", "http", "queue", "service_bus",
           "service_bus_batch", "timer"]

Typed = dict[str, Any]
Fired = tuple[Typed, dict[str, Typed]]


def _json(value: Any) -> Typed:
    return {"json": json.dumps(value)}


def _bytes(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def http(
    method: str = "GET",
    url: str = "https://shop.azurewebsites.net/api/ask",
    *,
    headers: Mapping[str, str] | None = None,
    query: Mapping[str, str] | None = None,
    route: Mapping[str, str] | None = None,
    body: Any = None,
) -> Fired:
    request: dict[str, Any] = {
        "method": method, "url": url, "headers": dict(headers or {}), "query": dict(query or {}),
        "params": dict(route or {}),
    }
    if body is not None:
        request["headers"].setdefault("content-type", "application/json")
        request["body"] = {"bytes": _bytes(body if isinstance(body, str) else json.dumps(body))}
    return {"http": request}, {}


def timer(*, past_due: bool = False) -> Fired:
    return _json({
        "IsPastDue": past_due, "Schedule": {"AdjustForDST": True},
        "ScheduleStatus": {"Last": "2026-01-01T00:00:00Z", "Next": "2026-01-01T00:05:00Z"},
    }), {}


def queue(body: str, *, message_id: str = "m1", dequeue_count: int = 1) -> Fired:
    return {"string": body}, {
        "Id": {"string": message_id}, "DequeueCount": {"json": str(dequeue_count)}, "PopReceipt": {"string": "r1"},
        "InsertionTime": _json("2026-01-01T00:00:00+00:00"), "ExpirationTime": _json("2026-01-08T00:00:00+00:00"),
        "NextVisibleTime": _json("2026-01-01T00:10:00+00:00"),
    }


def service_bus(body: str, *, properties: Mapping[str, str] | None = None, delivery_count: int = 1) -> Fired:
    return {"string": body}, {
        "MessageId": {"string": "sb1"}, "DeliveryCount": {"json": str(delivery_count)}, "SequenceNumber": {"json": "7"},
        "ContentType": {"string": "text/plain"}, "CorrelationId": {"string": "c1"}, "LockToken": {"string": "l1"},
        "EnqueuedTimeUtc": _json("2026-01-01T00:00:00Z"), "UserProperties": _json(properties or {}),
        "ApplicationProperties": _json(properties or {}),
    }


def service_bus_batch(bodies: Sequence[str], *, properties: Sequence[Mapping[str, str]] | None = None) -> Fired:
    count = range(len(bodies))
    given = list(properties or [{} for _ in bodies])
    return {"collection_string": {"string": list(bodies)}}, {
        "UserPropertiesArray": _json(given), "ApplicationPropertiesArray": _json(given),
        "MessageIdArray": {"collection_string": {"string": [f"sb{number}" for number in count]}},
        "ContentTypeArray": {"collection_string": {"string": ["text/plain" for _ in count]}},
        "CorrelationIdArray": {"collection_string": {"string": [f"c{number}" for number in count]}},
        "DeliveryCountArray": _json([1 for _ in count]),
        "SequenceNumberArray": {"collection_sint64": {"sint64": [str(100 + number) for number in count]}},
        "EnqueuedTimeUtcArray": _json(["2026-01-01T00:00:00Z" for _ in count]),
        "ExpiresAtUtcArray": _json(["2026-01-02T00:00:00Z" for _ in count]),
        "LockTokenArray": {"collection_string": {"string": [f"l{number}" for number in count]}},
    }


def event_hub(body: str, *, properties: Mapping[str, str] | None = None) -> Fired:
    return {"string": body}, {
        "SystemProperties": _json({"x-opt-sequence-number": 5}), "Properties": _json(properties or {}),
        "PartitionKey": {"string": "p"}, "SequenceNumber": {"json": "5"}, "Offset": {"string": "96"},
        "EnqueuedTimeUtc": _json("2026-01-01T00:00:00Z"),
        "PartitionContext": _json({"EventHubName": "orders", "ConsumerGroup": "$Default", "PartitionId": "2"}),
    }


def event_hub_batch(bodies: Sequence[str], *, properties: Sequence[Mapping[str, str]] | None = None) -> Fired:
    return {"collection_string": {"string": list(bodies)}}, {
        "SystemPropertiesArray": _json([
            {"SequenceNumber": number, "Offset": 96 * number, "PartitionKey": "p",
             "EnqueuedTimeUtc": "2026-01-01T00:00:00Z"} for number in range(len(bodies))
        ]),
        "PropertiesArray": _json(list(properties or [{} for _ in bodies])),
        "PartitionContext": _json({"EventHubName": "orders", "ConsumerGroup": "$Default", "PartitionId": "2"}),
    }


def event_grid(data: Any) -> Fired:
    return _json({
        "id": "g1", "topic": "/subscriptions/s/topics/t", "subject": "orders/7", "eventType": "Order.Placed",
        "eventTime": "2026-01-01T00:00:00Z", "data": data, "dataVersion": "1.0",
    }), {}


def blob(content: str, *, name: str = "incoming/order.json") -> Fired:
    return {"bytes": _bytes(content)}, {
        "BlobTrigger": {"string": name}, "Uri": {"string": f"https://shop.blob.core.windows.net/{name}"},
        "Properties": _json({"Length": len(content), "ContentLength": len(content)}), "Metadata": _json({}),
    }


def cosmos(documents: Sequence[Mapping[str, Any]]) -> Fired:
    return _json(list(documents)), {}


def generic(body: str) -> Fired:
    return {"string": body}, {}
