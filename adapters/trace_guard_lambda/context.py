"""The metadata of an invocation from Lambda's context object and environment, in OpenTelemetry's FaaS terms.

The terms: https://opentelemetry.io/docs/specs/semconv/attributes-registry/faas/ and ``cloud``. The context:
https://docs.aws.amazon.com/lambda/latest/dg/python-context.html. The variables:
https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html
"""

from __future__ import annotations

import os
from typing import Any, Protocol

from trace_guard import Deadline
from trace_guard.invocation.reading import known

__all__ = [
    "ColdStart", "LambdaContext", "deadline_of", "execution_facts_of", "facts_of", "initialization_type", "name_of",
    "request_id_of",
]

# The facts that differ between the invocations of one durable execution.
_OF_AN_INVOCATION = ("faas.instance", "faas.invocation_id", "faas.coldstart")

# Environments that are initialised before an event arrives:
# https://docs.aws.amazon.com/lambda/latest/dg/provisioned-concurrency.html and lambda-managed-instances.html there.
_READY_IN_ADVANCE = ("provisioned-concurrency", "lambda-managed-instances")


class LambdaContext(Protocol):
    """The attributes that are read from Lambda's context object. Any may be missing: tests and local tools pass
    contexts of their own, or None."""

    aws_request_id: str
    function_name: str
    function_version: str
    invoked_function_arn: str
    memory_limit_in_mb: str
    log_stream_name: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda ends the invocation."""
        ...


def deadline_of(context: Any) -> Deadline | None:
    """When Lambda will end this invocation; None if the context has no remaining time."""
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    milliseconds = remaining() if callable(remaining) else None
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, (int, float)) or not milliseconds > 0:
        return None  # not Lambda's context: Lambda never calls a handler that has no time left
    return Deadline.after(milliseconds / 1000)


def name_of(context: Any) -> str:
    """The function's name, for the root span."""
    return _text(context, "function_name") or os.environ.get("AWS_LAMBDA_FUNCTION_NAME") or "lambda"


def request_id_of(context: Any) -> str | None:
    """The id of the invocation."""
    return _text(context, "aws_request_id")


def facts_of(context: Any, *, cold: bool) -> dict[str, Any]:
    """The metadata of the root span, without unknown facts."""
    arn = _text(context, "invoked_function_arn")
    # arn:aws:lambda:eu-west-1:123456789012:function:name:alias
    parts = arn.split(":") if arn else []
    facts: dict[str, Any] = {
        "cloud.provider": "aws",
        "cloud.platform": "aws_lambda",
        "cloud.region": os.environ.get("AWS_REGION") or (parts[3] if len(parts) > 3 else None),
        "cloud.account.id": parts[4] if len(parts) > 4 else None,
        "cloud.resource_id": arn,
        "faas.name": name_of(context),
        "faas.version": _text(context, "function_version") or os.environ.get("AWS_LAMBDA_FUNCTION_VERSION"),
        "faas.instance": _text(context, "log_stream_name") or os.environ.get("AWS_LAMBDA_LOG_STREAM_NAME"),
        "faas.invocation_id": request_id_of(context),
        "faas.coldstart": cold,
        "faas.trigger": "other",
        "faas.max_memory": _megabytes(context),
    }
    return known(facts)


def execution_facts_of(context: Any) -> dict[str, Any]:
    """The facts that all invocations of a durable execution share."""
    return {key: value for key, value in facts_of(context, cold=False).items() if key not in _OF_AN_INVOCATION}


def initialization_type() -> str:
    """How the environment was initialised: ``on-demand``, ``provisioned-concurrency``, ``snap-start``, or
    ``lambda-managed-instances``."""
    return os.environ.get("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")


class ColdStart:
    """Distinguishes the first invocation of an environment from later ones.

    The first invocation after the restore of a snapshot is a cold start too: its caller waits for the restore, and
    Lambda bills it like an init. https://docs.aws.amazon.com/lambda/latest/dg/snapstart.html
    """

    def __init__(self) -> None:
        self._seen = False

    def take(self) -> bool:
        """True the first time, unless the environment was initialised in advance, so that no caller waited."""
        first, self._seen = not self._seen, True
        return initialization_type() not in _READY_IN_ADVANCE and first

    def renew(self) -> None:
        """Start again after a restore. A handler may have been called before the snapshot to warm the process."""
        self._seen = False


def _text(context: Any, name: str) -> str | None:
    value = getattr(context, name, None)
    return value if isinstance(value, str) and value else None


def _megabytes(context: Any) -> int | None:
    """The memory limit in bytes, as OpenTelemetry requires. Lambda gives megabytes as a string."""
    value = getattr(context, "memory_limit_in_mb", None) or os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
    try:
        return int(value) * 1024 * 1024 if value is not None else None
    except (TypeError, ValueError):
        return None
