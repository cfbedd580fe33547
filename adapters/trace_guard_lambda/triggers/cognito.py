"""Cognito: the triggers of a user pool."""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import carrier, mapping, text

from .description import Description, Trigger

__all__ = ["Cognito"]


class Cognito(Trigger):
    """A step of signing up or in. Who does it is not said here: names are often addresses.

    A parent can be in the client metadata, which the user's application sends along.

    https://docs.aws.amazon.com/cognito/latest/developerguide/cognito-user-pools-working-with-lambda-triggers.html
    """

    source = "cognito"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        found = mapping(event)
        return "triggerSource" in found and "userPoolId" in found

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        found = mapping(event)
        step = text(found.get("triggerSource"))
        facts = {
            "aws.cognito.trigger_source": step,
            "aws.cognito.user_pool_id": text(found.get("userPoolId")),
            "aws.cognito.client_id": text(mapping(found.get("callerContext")).get("clientId")),
        }
        return cls.said(facts, name=step, carriers=(carrier(mapping(found.get("request")).get("clientMetadata")),))
