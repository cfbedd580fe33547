"""Amazon Connect: the function block of a flow.

https://docs.aws.amazon.com/connect/latest/adminguide/connect-lambda-functions.html
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import carrier, mapping, text

from .description import Description, Trigger
from .reading import ARN

__all__ = ["Connect"]


class Connect(Trigger):
    """A contact that reaches the block. The event does not name the flow. The contact's numbers are left out.

    A parent can be in the block's parameters or in the contact's attributes.
    """

    source = "connect"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        contact = mapping(mapping(mapping(event).get("Details")).get("ContactData"))
        return "ContactId" in contact and "InstanceARN" in contact

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        details = mapping(mapping(event).get("Details"))
        contact = mapping(details.get("ContactData"))
        facts = {
            "aws.connect.channel": text(contact.get("Channel")),
            "aws.connect.contact_id": text(contact.get("ContactId")),
            "aws.connect.initial_contact_id": text(contact.get("InitialContactId")),
            "aws.connect.initiation_method": text(contact.get("InitiationMethod")),
            "aws.connect.queue": text(mapping(contact.get("Queue")).get("Name")),
            ARN: text(contact.get("InstanceARN")),
        }
        own = carrier(details.get("Parameters")) or carrier(contact.get("Attributes"))
        return cls.description(facts, name="Connect contact flow", carriers=(own,))
