"""Timers, Event Grid events, warm-ups, tools, activities, and all other triggers."""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import known, text, time_of

from ..declaration import Declaration
from .description import Description, Trigger
from .reading import attribute, carrier_in, content_of, parsed

__all__ = ["EventGrid", "McpTool", "Other", "Timer", "Warmup"]


class Timer(Trigger):
    """https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer"""

    kinds = ("timertrigger",)
    types = ("TimerRequest",)
    trigger = "timer"

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        if isinstance(value, str):  # the function declares text
            fields = parsed(value)
            late = fields.get("IsPastDue") if isinstance(fields, dict) else None
        else:
            late = attribute(value, "past_due")
        past_due = late if isinstance(late, bool) else None
        facts = {"faas.cron": declared.setting("schedule"), "azure.functions.timer.past_due": past_due}
        return cls.description(facts, {"past_due": past_due}, declared)


class EventGrid(Trigger):
    """https://learn.microsoft.com/azure/azure-functions/functions-bindings-event-grid-trigger

    The fields of Event Grid's own schema correspond to those of CloudEvents, whose names OpenTelemetry uses:
    https://learn.microsoft.com/azure/event-grid/cloud-event-schema
    """

    kinds = ("eventgridtrigger",)
    types = ("EventGridEvent", "CloudEvent")
    trigger = "pubsub"

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        if isinstance(value, (str, bytes)):
            return cls.description({"messaging.system": "eventgrid"}, content_of(value, byte_limit), declared)
        read = attribute(value, "get_json")
        data = read() if callable(read) else attribute(value, "data")
        kind = text(attribute(value, "event_type")) or text(attribute(value, "type"))
        subject = text(attribute(value, "subject"))
        facts = {
            "messaging.system": "eventgrid",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "cloudevents.event_id": text(attribute(value, "id")),
            "cloudevents.event_source": text(attribute(value, "topic")) or text(attribute(value, "source")),
            "cloudevents.event_subject": subject,
            "cloudevents.event_time": time_of(attribute(value, "event_time")) or time_of(attribute(value, "time")),
            "cloudevents.event_type": kind,
        }
        carriers = (carrier_in(attribute(value, "extensions")) or carrier_in(data),)
        shown = {"type": kind, "subject": subject, "data": data}
        return cls.description(facts, known(shown), declared, carriers=carriers)


class Warmup(Trigger):
    """The warm-up of an instance: https://learn.microsoft.com/azure/azure-functions/functions-bindings-warmup"""

    kinds = ("warmuptrigger",)
    types = ("WarmUpContext",)

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        return cls.description({}, {}, declared)


class McpTool(Trigger):
    """A tool that a model calls. Only its arguments are logged, because the call also contains the caller's headers.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-mcp
    """

    kinds = ("mcptooltrigger",)

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        # Below the tool's decorator, a function gets only the arguments.
        call = parsed(value) if isinstance(value, str) else {"arguments": value}
        fields = call if isinstance(call, dict) else {}
        facts = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": declared.setting("toolName") or text(fields.get("name")),
        }
        return cls.description(facts, fields.get("arguments"), declared)


class Other(Trigger):
    """Any other trigger. Only its value is logged."""

    @classmethod
    def describe(cls, value: Any, declared: Declaration, byte_limit: int) -> Description:
        return cls.description({}, content_of(value, byte_limit), declared)
