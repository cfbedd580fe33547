"""AWS Config: custom rules.

https://docs.aws.amazon.com/config/latest/developerguide/evaluate-config_develop-rules_example-events.html
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import mapping, text

from .description import Description, Trigger
from .reading import ARN, parsed

__all__ = ["ConfigRule"]


class ConfigRule(Trigger):
    """An evaluation, after a change to a resource or by a schedule."""

    source = "config"
    keys = ("configRuleName", "invokingEvent")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        rule = text(fields.get("configRuleName"))
        invoking = parsed(fields.get("invokingEvent"))
        kind = text(invoking.get("messageType"))
        item = mapping(invoking.get("configurationItem")) or mapping(invoking.get("configurationItemSummary"))
        facts = {
            "aws.config.rule.id": text(fields.get("configRuleId")),
            "aws.config.rule.name": rule,
            "aws.config.message_type": kind,
            "aws.config.resource_type": text(item.get("resourceType")),
            "aws.config.resource_id": text(item.get("resourceId")),
            ARN: text(fields.get("configRuleArn")),
        }
        description = cls.description(facts, name=" ".join(part for part in (rule, kind) if part) or None)
        return description._replace(trigger="timer") if kind == "ScheduledNotification" else description
