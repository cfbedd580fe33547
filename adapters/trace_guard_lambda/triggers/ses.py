"""SES: received emails.

https://docs.aws.amazon.com/ses/latest/dg/receiving-email-action-lambda-event.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import mapping, text

from .batches import messaging_facts
from .description import Description, Trigger
from .reading import first_record, records_of

__all__ = ["Ses"]


class Ses(Trigger):
    """An email that matches a receipt rule. SES sends one at a time. The event names no rule, and the addresses are
    left out."""

    source = "ses"
    trigger = "pubsub"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return first_record(event).get("eventSource") == "aws:ses"

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        records = records_of(event)
        only = _ses(records[0]) if len(records) == 1 else {}
        action = mapping(mapping(only.get("receipt")).get("action"))
        facts = {
            **messaging_facts("aws_ses", None, len(records)),
            "messaging.message.id": text(mapping(only.get("mail")).get("messageId")),
            "aws.ses.invocation_type": text(action.get("invocationType")),
        }
        return cls.description(facts, name="SES process", records=len(records))


def _ses(record: Any) -> Mapping[Any, Any]:
    return mapping(mapping(record).get("ses"))
