"""Amazon MQ: ActiveMQ and RabbitMQ.

https://docs.aws.amazon.com/lambda/latest/dg/with-mq.html and
https://opentelemetry.io/docs/specs/semconv/messaging/rabbitmq/
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import chain, islice
from typing import Any

from trace_guard.invocation.reading import LOOKED_AT, carrier, mapping, text

from .batches import messaging_facts
from .description import Carrier, Description, Trigger
from .reading import ARN, MULTIPLE, carriers_of, decoded, same, sequence

__all__ = ["ActiveMq", "RabbitMq"]


class ActiveMq(Trigger):
    """A batch of messages. A parent can be in their properties."""

    source = "activemq"
    trigger = "pubsub"
    keys = ("eventSource", "messages")

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return super().infer(event, context) and mapping(event).get("eventSource") in ("aws:mq", "aws:amq")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        records = sequence(fields.get("messages"))
        queue = same(records, lambda record: text(mapping(record.get("destination")).get("physicalName")))
        only = mapping(records[0]) if len(records) == 1 else {}
        facts = {
            **messaging_facts("activemq", queue, len(records)),
            "messaging.message.id": text(only.get("messageID")),
            "messaging.message.conversation_id": text(only.get("correlationID")),
            ARN: text(fields.get("eventSourceArn")),
        }
        carriers = carriers_of(records, lambda record: carrier(record.get("properties")))
        return cls.description(
            facts, name=f"{queue} process" if queue else None, carriers=carriers, records=len(records)
        )


class RabbitMq(Trigger):
    """A batch of messages, grouped by ``queue::virtual host``. A parent can be in their headers."""

    source = "rabbitmq"
    trigger = "pubsub"
    keys = ("eventSource", "rmqMessagesByQueue")

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return super().infer(event, context) and mapping(event).get("eventSource") == "aws:rmq"

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        groups = mapping(fields.get("rmqMessagesByQueue"))
        messages = [sequence(group) for group in groups.values()]
        count = sum(map(len, messages))
        records = list(islice(chain.from_iterable(messages), LOOKED_AT))
        queue, _, host = (text(next(iter(groups), None)) or "").rpartition("::")
        if len(groups) > 1:
            queue, host = MULTIPLE, ""
        only = mapping(mapping(records[0]).get("basicProperties")) if count == 1 else {}
        facts = {
            **messaging_facts("rabbitmq", queue or None, count),
            "messaging.message.id": text(only.get("messageId")),
            "messaging.message.conversation_id": text(only.get("correlationId")),
            "aws.mq.virtual_host": host or None,
            ARN: text(fields.get("eventSourceArn")),
        }
        return cls.description(
            facts, name=f"{queue} process" if queue else None, carriers=carriers_of(records, _carrier), records=count
        )


def _carrier(record: Mapping[Any, Any]) -> Carrier:
    """A header of a string is an object with the list of its bytes."""
    headers = mapping(mapping(record.get("basicProperties")).get("headers"))
    return carrier({
        name: decoded(mapping(value).get("bytes")) or value for name, value in islice(headers.items(), LOOKED_AT)
    })
