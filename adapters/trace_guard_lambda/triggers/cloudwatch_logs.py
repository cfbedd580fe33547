"""CloudWatch Logs: subscriptions to a log group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import mapping, text

from .batches import messaging_facts
from .description import Description, Trigger
from .reading import parsed, sequence

__all__ = ["CloudWatchLogs"]

_ENCODED_HEAD = 4096  # a multiple of four, so the head alone is valid base64
_HEAD = 4096


class CloudWatchLogs(Trigger):
    """Log events that match a subscription filter.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/SubscriptionFilters.html#LambdaFunctionExample
    """

    source = "cloudwatch_logs"
    trigger = "pubsub"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        fields = mapping(event)
        return "data" in mapping(fields.get("awslogs")) or set(fields) == {"awslogs"}

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        head = _head(mapping(mapping(event).get("awslogs")).get("data"))
        group, stream = text(head.get("logGroup")), text(head.get("logStream"))
        filters = [name for value in sequence(head.get("subscriptionFilters"))[:4] if (name := text(value))]
        facts = {
            **messaging_facts("aws_cloudwatch_logs", group, None),
            "messaging.destination.subscription.name": filters[0] if filters else None,
            "aws.log.group.names": [group] if group else None,
            "aws.log.stream.names": [stream] if stream else None,
        }
        return cls.description(facts, name=f"{group} process" if group else None)


def _head(data: Any) -> Mapping[Any, Any]:
    """The fields before the log events. Only the beginning is unpacked, because the events may have megabytes."""
    if not isinstance(data, str):
        return {}
    import binascii
    import zlib

    try:
        packed = binascii.a2b_base64(data[:_ENCODED_HEAD])
        unpacked = zlib.decompressobj(wbits=31).decompress(packed, _HEAD).decode(errors="replace")
    except (ValueError, zlib.error):
        return {}
    head, separator, _ = unpacked.partition('"logEvents"')
    return parsed(head.rstrip().rstrip(",") + "}") if separator else {}
