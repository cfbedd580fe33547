"""Single messages and batches: Queue storage, Service Bus, Event Hubs, Kafka, RabbitMQ.

The terms: https://opentelemetry.io/docs/specs/semconv/registry/attributes/messaging/
"""

from __future__ import annotations

import base64
import contextlib
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from trace_guard.invocation.propagation import Carrier
from trace_guard.invocation.reading import LOOKED_AT, number, text, time_of

from ..declaration import Declaration
from .description import Description, Trigger, inputs_of
from .reading import attribute, carrier_in, content_of, json_mapping, parsed

__all__ = ["EventHub", "Kafka", "Queue", "RabbitMq", "ServiceBus"]


class _Messages(Trigger):
    """A trigger for messages.

    Attributes:
        system: ``messaging.system``.
        destination: the settings of the binding that name the source of its messages.
    """

    trigger = "pubsub"
    system: ClassVar[str]
    destination: ClassVar[tuple[str, ...]] = ("queueName",)

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        messages = _batch(value)
        facts: dict[str, Any] = {
            "messaging.system": cls.system,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": declared.setting(*cls.destination),
            "messaging.destination.subscription.name": declared.setting("subscriptionName"),
        }
        if messages is None:
            facts |= cls.facts_of_message(value)
            return cls.description(
                facts, cls.input_of_message(value, byte_limit), declared, carriers=(cls.carrier_of_message(value),)
            )
        facts |= {**cls._common(messages), "messaging.batch.message_count": len(messages)}
        carriers = tuple(cls.carrier_of_message(message) for message in messages[:LOOKED_AT])
        shown = inputs_of(cls, messages, byte_limit)
        return cls.description(facts, shown, declared, carriers=carriers, messages=messages)

    @classmethod
    def _common(cls, messages: Sequence[Any]) -> dict[str, Any]:
        """The metadata that all messages of a batch share."""
        return {}

    @classmethod
    def input_of_message(cls, message: Any, byte_limit: int) -> Any:
        return content_of(_body_of(message), byte_limit)


class Queue(_Messages):
    """https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue-trigger"""

    kinds = ("queuetrigger",)
    types = ("QueueMessage",)
    system = "azure_storage_queue"

    @classmethod
    def facts_of_message(cls, message: Any) -> dict[str, Any]:
        return {
            "messaging.message.id": text(attribute(message, "id")),
            "azure.storage.queue.dequeue_count": number(attribute(message, "dequeue_count")),
            "azure.storage.queue.insertion_time": time_of(attribute(message, "insertion_time")),
        }


class ServiceBus(_Messages):
    """https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus-trigger"""

    kinds = ("servicebustrigger",)
    types = ("ServiceBusMessage", "ServiceBusReceivedMessage")
    system = "servicebus"
    destination = ("queueName", "topicName")

    @classmethod
    def facts_of_message(cls, message: Any) -> dict[str, Any]:
        return {
            "messaging.message.id": text(attribute(message, "message_id")),
            "messaging.message.conversation_id": text(attribute(message, "correlation_id")),
            "messaging.servicebus.message.delivery_count": number(attribute(message, "delivery_count")),
            "messaging.servicebus.message.enqueued_time": time_of(attribute(message, "enqueued_time_utc")),
            "azure.servicebus.sequence_number": number(attribute(message, "sequence_number")),
            "azure.servicebus.session_id": text(attribute(message, "session_id")),
        }

    @classmethod
    def carrier_of_message(cls, message: Any) -> Carrier:
        return carrier_in(attribute(message, "application_properties")) or carrier_in(
            attribute(message, "user_properties")
        )


class EventHub(_Messages):
    """https://learn.microsoft.com/azure/azure-functions/functions-bindings-event-hubs-trigger"""

    kinds = ("eventhubtrigger",)
    types = ("EventHubEvent", "EventData")
    system = "eventhubs"
    destination = ("eventHubName",)

    @classmethod
    def facts_of_message(cls, message: Any) -> dict[str, Any]:
        return {
            **cls._partition(message),
            "messaging.eventhubs.message.enqueued_time": time_of(attribute(message, "enqueued_time")),
            "azure.eventhubs.sequence_number": number(attribute(message, "sequence_number")),
            "azure.eventhubs.offset": _shown(attribute(message, "offset")),
            "azure.eventhubs.partition_key": text(attribute(message, "partition_key")),
        }

    @classmethod
    def _common(cls, messages: Sequence[Any]) -> dict[str, Any]:
        # A batch comes from one partition.
        return cls._partition(messages[0]) if messages else {}

    @classmethod
    def _partition(cls, message: Any) -> dict[str, Any]:
        context = json_mapping(json_mapping(attribute(message, "metadata")).get("PartitionContext"))
        return {
            "messaging.destination.partition.id": text(context.get("PartitionId")),
            "messaging.consumer.group.name": text(context.get("ConsumerGroup")),
        }

    @classmethod
    def carrier_of_message(cls, message: Any) -> Carrier:
        metadata = json_mapping(attribute(message, "metadata"))
        own = carrier_in(attribute(message, "properties")) or carrier_in(metadata.get("Properties"))
        return own or cls._carrier_in_batch(message, metadata)

    @classmethod
    def _carrier_in_batch(cls, message: Any, metadata: Mapping[Any, Any]) -> Carrier:
        """The trace context of an event in a batch. Each event has the metadata of all events, and its own sequence
        number."""
        system, properties = metadata.get("SystemPropertiesArray"), metadata.get("PropertiesArray")
        sequence_number = number(attribute(message, "sequence_number"))
        if sequence_number is None or not isinstance(system, str) or not isinstance(properties, str):
            return {}
        return _carriers_by_sequence_number(system, properties).get(sequence_number, {})

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        description = super().describe(value, declared, byte_limit)
        if description.messages and not description.carriers:
            properties = json_mapping(attribute(description.messages[0], "metadata")).get("PropertiesArray")
            if isinstance(properties, str):
                properties = parsed(properties)
            if isinstance(properties, list) and len(properties) == len(description.messages):
                carriers = tuple(carrier_in(each) for each in properties[:LOOKED_AT])
                return description._replace(carriers=carriers if any(carriers) else ())
        return description


class Kafka(_Messages):
    """https://learn.microsoft.com/azure/azure-functions/functions-bindings-kafka-trigger"""

    kinds = ("kafkatrigger",)
    types = ("KafkaEvent", "KafkaRecord")
    system = "kafka"
    destination = ("topic",)

    @classmethod
    def facts_of_message(cls, message: Any) -> dict[str, Any]:
        return {
            "messaging.destination.partition.id": _shown(attribute(message, "partition")),
            "messaging.kafka.offset": number(attribute(message, "offset")),
            "messaging.kafka.message.key": text(attribute(message, "key")),
        }

    @classmethod
    def carrier_of_message(cls, message: Any) -> Carrier:
        pairs = attribute(message, "headers")
        headers = {}
        for pair in pairs if isinstance(pairs, (list, tuple)) else ():
            name, value = json_mapping(pair).get("Key"), json_mapping(pair).get("Value")
            if isinstance(name, str):
                headers[name.lower()] = value
        return carrier_in(headers) or carrier_in({name: _decoded(value) for name, value in headers.items()})


class RabbitMq(_Messages):
    """https://learn.microsoft.com/azure/azure-functions/functions-bindings-rabbitmq-trigger"""

    kinds = ("rabbitmqtrigger",)
    types = ("RabbitMQMessage",)
    system = "rabbitmq"


@functools.lru_cache(maxsize=4)  # all events of a batch have the same two texts
def _carriers_by_sequence_number(system: str, properties: str) -> dict[int | None, Carrier]:
    described, sent = parsed(system), parsed(properties)
    if not isinstance(described, list) or not isinstance(sent, list):
        return {}
    return {
        number(json_mapping(event).get("SequenceNumber")): carrier_in(own)
        for event, own in zip(described, sent, strict=False)
    }


def _batch(value: Any) -> Sequence[Any] | None:
    """The messages of a batch; None for a single message."""
    return value if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)) else None


def _body_of(message: Any) -> Any:
    """The body of a message. For a function that declares text or bytes, the message is the body."""
    read = attribute(message, "get_body")
    if callable(read):
        with contextlib.suppress(Exception):
            return read()
    if isinstance(message, (str, bytes, bytearray, Mapping)):
        return message
    body = attribute(message, "body")  # SDK types have bytes, or an iterator, which must not be consumed
    return body if isinstance(body, (str, bytes)) else f"<{type(message).__name__}>"


def _shown(value: Any) -> str | None:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else text(value)


def _decoded(value: Any) -> Any:
    """The value of a Kafka header, which the extension may encode in base64."""
    with contextlib.suppress(ValueError, TypeError):
        return base64.b64decode(value, validate=True)
    return value
