"""Messages: SQS, SNS, and SNS through SQS.

Names and attributes: https://opentelemetry.io/docs/specs/semconv/faas/aws-lambda/#sqs and
https://opentelemetry.io/docs/specs/semconv/registry/attributes/messaging/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import carrier, mapping, number, text

from .batches import Batch, messaging_facts
from .description import Carrier, Description, Trigger
from .reading import (
    ARN,
    MULTIPLE,
    attributes_carrier,
    carriers_of,
    first_record,
    parsed,
    records_of,
    same,
    single,
)

__all__ = ["Sns", "SnsInSqs", "Sqs"]


class Sqs(Batch):
    """A batch from a queue. Messages from S3, and from SNS with raw delivery, are treated as ordinary messages.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    """

    source = "sqs"
    trigger = "pubsub"
    event_source = "aws:sqs"

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        records = records_of(event)
        arn = cls.arn_of(records)
        queue = arn.rpartition(":")[2] if arn and arn != MULTIPLE else arn
        only = mapping(records[0]) if len(records) == 1 else {}
        facts = {
            **messaging_facts("aws_sqs", queue, len(records)),
            "messaging.message.id": text(only.get("messageId")),
            "aws.sqs.approximate_receive_count": number(
                mapping(only.get("attributes")).get("ApproximateReceiveCount")
            ),
            ARN: single(arn),
            **cls._origin(event, only),
        }
        return cls.description(
            facts, name=f"{queue} process" if queue else None, carriers=carriers_of(records, _carrier),
            records=len(records),
        )

    @classmethod
    def _origin(cls, event: Any, only: Mapping[Any, Any]) -> dict[str, Any]:
        return {}


class SnsInSqs(Sqs):
    """A batch of notifications in SNS envelopes, from a queue that subscribes to a topic without raw delivery.

    https://docs.aws.amazon.com/sns/latest/dg/sns-sqs-as-subscriber.html
    """

    source = "sns_in_sqs"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        first = first_record(event)
        body = first.get("body") if first.get("eventSource") == "aws:sqs" else None
        # Quotes within a message's text are escaped, so only an envelope matches. `describe` parses it.
        return isinstance(body, str) and '"TopicArn"' in body and '"Notification"' in body

    @classmethod
    def _origin(cls, event: Any, only: Mapping[Any, Any]) -> dict[str, Any]:
        envelope = _notification(first_record(event).get("body"))
        return {
            "aws.sns.topic.arn": text(envelope.get("TopicArn")),
            "aws.sns.message.id": text(envelope.get("MessageId")) if only else None,
        }


class Sns(Trigger):
    """A notification. SNS sends one at a time.

    https://docs.aws.amazon.com/lambda/latest/dg/with-sns.html
    """

    source = "sns"
    trigger = "pubsub"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return first_record(event).get("EventSource") == "aws:sns"

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        records = records_of(event)
        arn = same(records, lambda record: text(mapping(record.get("Sns")).get("TopicArn")))
        topic = arn.rpartition(":")[2] if arn and arn != MULTIPLE else arn
        only = mapping(mapping(records[0]).get("Sns")) if len(records) == 1 else {}
        known = single(arn)
        facts = {
            **messaging_facts("aws.sns", topic, len(records)),
            "messaging.message.id": text(only.get("MessageId")),
            "aws.sns.topic.arn": known,
            ARN: known,
        }
        carriers = carriers_of(records, lambda record: _sns_carrier(mapping(record.get("Sns"))))
        return cls.description(
            facts, name=f"{topic} process" if topic else None, carriers=carriers, records=len(records)
        )


def _carrier(record: Mapping[Any, Any]) -> Carrier:
    """The trace context of a message: from its own attributes, else from the envelope of SNS or EventBridge."""
    own = attributes_carrier(record.get("messageAttributes"), "stringValue")
    body = record.get("body")
    if own or not isinstance(body, str) or "traceparent" not in body:
        return own
    envelope = parsed(body)
    if "TopicArn" in envelope:
        return _sns_carrier(envelope)
    return carrier(envelope.get("detail")) if "detail-type" in envelope else {}


def _sns_carrier(notification: Mapping[Any, Any]) -> Carrier:
    return attributes_carrier(notification.get("MessageAttributes"), "Value")


def _notification(body: Any) -> Mapping[Any, Any]:
    envelope = parsed(body)
    return envelope if envelope.get("Type") == "Notification" else {}
