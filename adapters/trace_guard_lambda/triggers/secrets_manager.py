"""Secrets Manager: the rotation of secrets.

https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotate-secrets_lambda-functions.html
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import mapping, text

from .description import Description, Trigger
from .reading import ARN

__all__ = ["SecretRotation"]


class SecretRotation(Trigger):
    """A step of a rotation: ``createSecret``, ``setSecret``, ``testSecret`` or ``finishSecret``."""

    source = "secrets_manager"
    keys = ("Step", "SecretId", "ClientRequestToken")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        step, secret = text(fields.get("Step")), text(fields.get("SecretId"))
        facts = {
            "aws.secretsmanager.rotation_step": step,
            "aws.secretsmanager.secret.arn": secret,
            ARN: secret,
        }
        return cls.description(facts, name=f"rotation {step}" if step else None)
