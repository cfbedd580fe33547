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
    """A rule with a schedule, or EventBridge Scheduler where no input of one's own is set.

    https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-create-rule-schedule.html
    """

    source = "schedule"
    trigger = "timer"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        found = mapping(event)
        return found.get("detail-type") == "Scheduled Event" and found.get("source") in ("aws.events", "aws.scheduler")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        found = mapping(event)
        facts = {
            "faas.time": text(found.get("time")),
            "aws.eventbridge.event_id": text(found.get("id")),
            ARN: _rule(found.get("resources")),
        }
        return cls.said(facts)


class EventBridge(Trigger):
    """An event of a bus. A parent can be in its detail, as ``traceparent`` and ``baggage`` at the top.

    The event does not say which bus or rule it came by; what it is comes nearest to a destination.
    """

    source = "eventbridge"
    trigger = "pubsub"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        found = mapping(event)
        return "detail-type" in found and ("source" in found or "detail" in found)

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        found = mapping(event)
        kind = text(found.get("detail-type"))
        facts = {
            **messaging_facts("aws_eventbridge", None, None),
            "messaging.message.id": text(found.get("id")),
            "aws.eventbridge.detail_type": kind,
            "aws.eventbridge.source": text(found.get("source")),
            "aws.eventbridge.replay_name": text(found.get("replay-name")),
        }
        carriers = (carrier(found.get("detail")),)
        return cls.said(facts, name=f"{kind} process" if kind else None, carriers=carriers)


def _rule(resources: Any) -> str | None:
    return next((found for one in sequence(resources)[:1] if (found := text(one))), None)
