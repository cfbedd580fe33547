"""Cognito: the triggers of a user pool."""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import carrier, mapping, text

from .description import Description, Trigger

__all__ = ["Cognito"]


class Cognito(Trigger):
    """A step of signing up or in. The user name is left out, because it is often an email address.

    A parent can be in the client metadata, which the application sends.

    https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-user-pools-working-with-lambda-triggers.html
    """

    source = "cognito"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        fields = mapping(event)
        return "triggerSource" in fields and "userPoolId" in fields

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        step = text(fields.get("triggerSource"))
        facts = {
            "aws.cognito.trigger_source": step,
            "aws.cognito.user_pool_id": text(fields.get("userPoolId")),
            "aws.cognito.client_id": text(mapping(fields.get("callerContext")).get("clientId")),
        }
        own = carrier(mapping(fields.get("request")).get("clientMetadata"))
        return cls.description(facts, name=step, carriers=(own,))
