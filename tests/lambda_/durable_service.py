"""Stands in for the service that keeps the state of durable executions and invokes the function repeatedly.

The function runs with the real SDK, which is given this as its client.
https://docs.aws.amazon.com/lambda/latest/api/API_CheckpointDurableExecution.html
"""

from __future__ import annotations

import copy
import json
import time
import uuid
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

__all__ = ["DurableService"]

Handler = Callable[[Any, Any], Any]

_DETAILS = {"STEP": "StepDetails", "CONTEXT": "ContextDetails", "WAIT": "WaitDetails"}
_STATUS = {"START": "STARTED", "SUCCEED": "SUCCEEDED", "FAIL": "FAILED", "RETRY": "PENDING"}


class DurableService:
    """A single execution.

    Args:
        input: of the execution.
        state: the :attr:`state` of an execution that another process has started.

    Attributes:
        arn: of the execution.
        started: its start, in whole milliseconds since the epoch.
        operations: the operations by their ids. The first is the execution itself.
    """

    def __init__(self, input: Any = None, *, state: str | None = None) -> None:
        if state is not None:
            self.arn, self.started, self.operations = json.loads(state)
            return
        function = "arn:aws:lambda:us-east-1:123456789012:function:order:1"
        invocation = str(uuid.uuid4())  # the SDK finds the execution's own operation by this id
        self.arn = f"{function}/durable-execution/nightly/{invocation}"
        self.started = int(time.time() * 1000) - 60_000
        self.operations: dict[str, dict[str, Any]] = {invocation: {
            "Id": invocation, "Type": "EXECUTION", "Status": "STARTED", "StartTimestamp": self.started,
            "ExecutionDetails": {"InputPayload": json.dumps(input)},
        }}

    @property
    def state(self) -> str:
        """The whole state, for another process."""
        return json.dumps([self.arn, self.started, self.operations])

    def event(self) -> dict[str, Any]:
        """The event that the function is called with."""
        return {
            "DurableExecutionArn": self.arn, "CheckpointToken": "token",
            "InitialExecutionState": {"Operations": copy.deepcopy(list(self.operations.values())), "NextMarker": ""},
        }

    def run(self, handler: Handler, *, at_most: int = 10) -> tuple[list[str], Any]:
        """Call the function until the execution is over. Returns the statuses of its answers and the last answer."""
        statuses: list[str] = []
        while len(statuses) < at_most:
            answer = self.invoke(handler)
            statuses.append(answer["Status"])
            if answer["Status"] != "PENDING":
                return statuses, answer
            self.let_waits_end()
        raise AssertionError(f"it is not over after {at_most} invocations")

    def invoke(self, handler: Handler, *, seconds: float = 60.0) -> Any:
        """Call the function once, with this much time."""
        return handler(self.event(), context(seconds))

    def let_waits_end(self) -> None:
        for operation in self.operations.values():
            if operation["Type"] == "WAIT":
                operation["Status"] = "SUCCEEDED"

    # Methods that the SDK calls, like those of boto's Lambda client

    def checkpoint_durable_execution(
        self, DurableExecutionArn: str, CheckpointToken: str, Updates: list[dict[str, Any]], ClientToken: str = ""
    ) -> dict[str, Any]:
        assert DurableExecutionArn == self.arn
        for update in Updates:
            operation = self.operations.setdefault(update["Id"], {"Id": update["Id"], "Type": update["Type"]})
            operation.update({key: update[key] for key in ("Name", "ParentId", "SubType") if update.get(key)})
            operation["Status"] = _STATUS[update["Action"]]
            details = operation.setdefault(_DETAILS[update["Type"]], {})
            if update.get("Payload") is not None:
                details["Result"] = update["Payload"]
            if update.get("Error") is not None:
                details["Error"] = update["Error"]
        changed = [copy.deepcopy(self.operations[update["Id"]]) for update in Updates]
        return {"CheckpointToken": "token", "NewExecutionState": {"Operations": changed}}

    def get_durable_execution_state(self, **_: Any) -> dict[str, Any]:
        return {"Operations": [], "NextMarker": ""}


def context(seconds: float = 60.0) -> Any:
    """Lambda's context of an invocation."""
    end = time.time() + seconds
    return SimpleNamespace(
        aws_request_id=str(uuid.uuid4()), function_name="order", function_version="1", memory_limit_in_mb="128",
        invoked_function_arn="arn:aws:lambda:us-east-1:123456789012:function:order:1", log_stream_name="stream",
        log_group_name="group", identity=None, client_context=None, tenant_id=None,
        get_remaining_time_in_millis=lambda: int((end - time.time()) * 1000),
    )
