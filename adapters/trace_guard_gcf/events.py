"""Describes the event that causes an invocation: a CloudEvent, or an event of the first generation.

Attributes of CloudEvents: https://opentelemetry.io/docs/specs/semconv/registry/attributes/cloudevents/. An event of
the first generation, with data and context, is described in the same terms:
https://cloud.google.com/functions/1stgendocs/writing/write-event-driven-functions
"""

from __future__ import annotations

import binascii
from collections.abc import Mapping
from typing import Any, NamedTuple

from trace_guard.contain import contained
from trace_guard.invocation.reading import known, mapping, text, time_of
from trace_guard.payload import CUT

from .propagation import carrier_of

__all__ = ["Event", "background_event", "chosen", "cloud_event"]

_PUBSUB = "pubsub"

# The ``faas.trigger`` of OpenTelemetry by the prefix of an event's type; "other" for all others.
_TRIGGERS = {
    "google.cloud.pubsub.": _PUBSUB,
    "google.pubsub.": _PUBSUB,
    "providers/cloud.pubsub/": _PUBSUB,
    "google.cloud.storage.": "datasource",
    "google.storage.": "datasource",
    "providers/cloud.storage/": "datasource",
    "google.cloud.firestore.": "datasource",
    "providers/cloud.firestore/": "datasource",
    "google.cloud.datastore.": "datasource",
    "google.firebase.database.": "datasource",
    "providers/google.firebase.database/": "datasource",
    "google.cloud.scheduler.": "timer",
}


class Event(NamedTuple):
    """The facts about an invocation that its event contains.

    Attributes:
        name: of the root span; None if the event has no type.
        trigger: ``faas.trigger`` of OpenTelemetry.
        metadata: plain JSON, ids and names only.
        carriers: the trace contexts in the event, the preferred one first.
        input: the event's data, with a Pub/Sub message decoded.
    """

    name: str | None
    trigger: str
    metadata: dict[str, Any]
    carriers: tuple[Mapping[str, str], ...]
    input: Any


def cloud_event(event: Any, *, byte_limit: int) -> Event:
    """The description of a CloudEvent.

    Args:
        event: of the CloudEvents SDK, or any object with ``get_attributes`` and ``get_data``.
        byte_limit: the most bytes of a message to decode.
    """
    attributes = event.get_attributes()
    # The distributed tracing extension:
    # https://github.com/cloudevents/spec/blob/main/cloudevents/extensions/distributed-tracing.md
    carriers = (contained("read the event's trace context", lambda: carrier_of(dict(attributes)), {}),)
    return _event(attributes, _topic(attributes.get("source")), event.get_data(), carriers, byte_limit)


def background_event(data: Any, context: Any, *, byte_limit: int) -> Event:
    """The description of an event of the first generation. ``byte_limit`` is as for :func:`cloud_event`."""
    resource = getattr(context, "resource", None)
    name = resource.get("name") if isinstance(resource, Mapping) else resource
    service = mapping(resource).get("service")
    attributes = {
        "id": getattr(context, "event_id", None),
        "type": getattr(context, "event_type", None),
        "source": f"//{service}/{name}" if service and name else name,
        "time": getattr(context, "timestamp", None),
    }
    return _event(attributes, _topic(name), data, (), byte_limit)


def chosen(carriers: tuple[Mapping[str, str], ...]) -> Mapping[str, str] | None:
    """The first trace context with a Braintrust parent, else the first trace context."""
    contexts = [carrier for carrier in carriers if carrier.get("traceparent")]
    with_parent = (each for each in contexts if "braintrust.parent" in each.get("baggage", ""))
    return next(with_parent, contexts[0] if contexts else None)


def _event(
    attributes: Mapping[str, Any], topic: str | None, data: Any, carriers: tuple[Mapping[str, str], ...],
    byte_limit: int,
) -> Event:
    kind = text(attributes.get("type"))
    trigger = next((word for start, word in _TRIGGERS.items() if (kind or "").startswith(start)), "other")
    metadata = {
        "cloudevents.event_id": text(attributes.get("id")),
        "cloudevents.event_source": text(attributes.get("source")),
        "cloudevents.event_spec_version": text(attributes.get("specversion")),
        "cloudevents.event_subject": text(attributes.get("subject")),
        "cloudevents.event_time": time_of(attributes.get("time")),
        "cloudevents.event_type": kind,
    }
    if trigger == _PUBSUB:
        message = _message(data)
        metadata |= {
            "messaging.system": "gcp_pubsub",
            "messaging.operation.type": "process",
            "messaging.destination.name": topic,
            "messaging.message.id": text(message.get("messageId")),
        }
        carriers += contained("read the message's trace context", lambda: (_carrier_in(message),), ())
        data = contained("read the message", lambda: _decoded(data, byte_limit), data)
    return Event(
        f"{kind} process" if kind else None, trigger,
        known(metadata), carriers, data,
    )


# Pub/Sub: https://cloud.google.com/eventarc/docs/cloudevents#pubsub


def _message(data: Any) -> Mapping[str, Any]:
    """The message in an event's data. In the first generation, the data is the message."""
    fields = mapping(data)
    return mapping(fields.get("message")) or fields


def _carrier_in(message: Mapping[str, Any]) -> Mapping[str, str]:
    attributes = mapping(message.get("attributes"))
    headers = {name: value for name, value in attributes.items() if isinstance(value, str) and value}
    if "googclient_traceparent" in headers:
        # Google's clients write the context of their publishing span here:
        # https://cloud.google.com/pubsub/docs/open-telemetry-tracing
        headers.setdefault("traceparent", headers["googclient_traceparent"])
    return carrier_of(headers)


def _decoded(data: Any, byte_limit: int) -> Any:
    """The same event with its message as text, because secrets can't be found in base64."""
    message = _message(data)
    encoded = message.get("data")
    if not isinstance(encoded, str):
        return data
    most = (byte_limit // 3 + 1) * 4
    try:
        plain = binascii.a2b_base64(encoded[:most])
        shown = plain.decode(errors="strict" if len(encoded) <= most else "ignore")
    except (binascii.Error, UnicodeDecodeError):
        shown = f"<{len(encoded)} characters of base64>"
    clear = {**message, "data": shown if len(encoded) <= most else f"{shown} {CUT}"}
    return {**data, "message": clear} if message is not data else clear


def _topic(source: Any) -> str | None:
    """The topic in ``//pubsub.googleapis.com/projects/P/topics/T``."""
    return text(source.rpartition("/topics/")[2]) if isinstance(source, str) and "/topics/" in source else None
