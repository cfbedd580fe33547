"""EventBridge: events of a bus, and schedules.

https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-events-structure.html
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import carrier, mapping, text

from .batches import messaging_facts
from .description import Description, Trigger
from .reading import ARN, sequence

__all__ = ["EventBridge", "Schedule"]


class Schedule(Trigger):
    """A rule with a schedule, or EventBridge Scheduler without a custom input.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html
    """

    source = "schedule"
    trigger = "timer"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        fields = mapping(event)
        source = fields.get("source")
        return fields.get("detail-type") == "Scheduled Event" and source in ("aws.events", "aws.scheduler")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        facts = {
            "faas.time": text(fields.get("time")),
            "aws.eventbridge.event_id": text(fields.get("id")),
            ARN: _rule(fields.get("resources")),
        }
        return cls.description(facts)


class EventBridge(Trigger):
    """An event of a bus. A parent can be in its detail, as top-level ``traceparent`` and ``baggage``.

    The span is named after the detail type, because the event does not name its bus or rule.
    """

    source = "eventbridge"
    trigger = "pubsub"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        fields = mapping(event)
        return "detail-type" in fields and ("source" in fields or "detail" in fields)

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        kind = text(fields.get("detail-type"))
        facts = {
            **messaging_facts("aws_eventbridge", None, None),
            "messaging.message.id": text(fields.get("id")),
            "aws.eventbridge.detail_type": kind,
            "aws.eventbridge.source": text(fields.get("source")),
            "aws.eventbridge.replay_name": text(fields.get("replay-name")),
        }
        carriers = (carrier(fields.get("detail")),)
        return cls.description(facts, name=f"{kind} process" if kind else None, carriers=carriers)


def _rule(resources: Any) -> str | None:
    return text(next(iter(sequence(resources)), None))
