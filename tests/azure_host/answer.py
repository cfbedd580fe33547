"""The result of an invocation."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "WorkerEnded"]

Message = dict[str, Any]


class WorkerEnded(Exception):
    """The worker process has ended without an answer.

    Attributes:
        status: its exit status; negative for a signal.
    """

    def __init__(self, status: int, log: str) -> None:
        super().__init__(f"the worker has ended with {status}; its log: {log[-4000:]}")
        self.status = status


@dataclass
class Answer:
    """The worker's answer for an invocation.

    Attributes:
        ok: True if the function succeeded.
        value: the result as text, bytes or parsed JSON; ``{"status", "headers", "body"}`` for an HTTP response.
        outputs: the values of its output bindings, in the same form.
        error: the exception as ``Name: text``; empty without an exception.
        stack: the traceback of the exception.
        invocation_id: of the invocation.
    """

    ok: bool
    value: Any = None
    outputs: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    stack: str = ""
    invocation_id: str = ""

    @classmethod
    def read(cls, response: Message) -> Answer:
        """
        Args:
            response: an ``InvocationResponse`` of :mod:`messages`.
        """
        status = response["result"]
        exception = status.get("exception", {})
        return cls(
            ok=status.get("status") == "Success", value=_value(response.get("return_value")),
            outputs={each["name"]: _value(each.get("data")) for each in response.get("output_data", [])},
            error=exception.get("message", ""), stack=exception.get("stack_trace", ""),
            invocation_id=response["invocation_id"],
        )


def _value(data: Message | None) -> Any:
    if not data:
        return None
    ((kind, value),) = data.items()
    if kind == "http":
        return {
            "status": int(value["status_code"]), "headers": value.get("headers", {}),
            "body": _value(value.get("body")) or b"",
        }
    if kind == "bytes":
        return base64.b64decode(value)
    return json.loads(value) if kind == "json" else value
