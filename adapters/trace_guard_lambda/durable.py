"""Durable functions: all invocations of one execution are one trace.

An execution that waits ends its invocation with the status PENDING, and is gone on with in another one, which
replays the code from its start. So each invocation is a span, and the execution's own span, above them, stays open
until it has succeeded or failed. That is so wherever the guard stands: above ``@durable_execution``, where it sees
the service's event and answer, or below, where it sees the execution's input and result, and a wait is raised.

The SDK runs the user's code on other threads than the one that called it. Without plugins they begin with an empty
context, with plugins they get the caller's; here they always get it, so that spans find their parent.

https://docs.aws.amazon.com/lambda/latest/dg/durable-functions.html and
https://github.com/aws/aws-durable-execution-sdk-python
"""

from __future__ import annotations

import contextvars
import functools
import json
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, NamedTuple

from trace_guard import Invocation, Outcome, current_invocation
from trace_guard.contain import contain
from trace_guard.invocation.execution import Execution
from trace_guard.invocation.invocation import NOTHING
from trace_guard.invocation.wrap import Begin, guarded
from trace_guard.runtime.state import PROCESS

from .context import execution_facts_of, name_of

__all__ = ["Run", "guarded_durably", "run_of"]

_SDK = "aws_durable_execution_sdk_python"


class Run(NamedTuple):
    """One invocation of an execution.

    Attributes:
        execution: the whole of which it is a part.
        name: of its span.
        input: of the execution; NOTHING if the event does not say.
        context: Lambda's own context.
        judge: for :attr:`trace_guard.Invocation.judge`.
    """

    execution: Execution
    name: str
    input: Any
    context: Any
    judge: Callable[[Invocation, Any], None]


def run_of(
    event: Any, context: Any, *, name: str | None = None, metadata: Mapping[str, Any] | None = None, tags: Any = None
) -> Run | None:
    """What an event says of a durable execution; None if it is none.

    Args:
        event: the service's event, or below ``@durable_execution`` the execution's input.
        context: Lambda's context, or below ``@durable_execution`` the SDK's.
        name, metadata, tags: of the execution's span; the name is by default the function's.
    """
    above = _mapping(event)
    arn = above.get("DurableExecutionArn")
    if isinstance(arn, str) and "CheckpointToken" in above:
        operations = _mapping(above.get("InitialExecutionState")).get("Operations")
        found = [_mapping(one) for one in operations] if isinstance(operations, list) else []
        judge: Callable[[Invocation, Any], None] = _judge_answer
        payload = _plain(next((one for one in found if one.get("Type") == "EXECUTION"), {}))
        replays = any(one.get("Type") not in ("EXECUTION", None) for one in found)
    else:
        arn = getattr(getattr(context, "execution_context", None), "durable_execution_arn", None)
        state = getattr(context, "state", None)
        if not isinstance(arn, str) or state is None:
            return None
        judge = _judge_result
        payload = _Start(_seconds(getattr(state.get_execution_operation(), "start_timestamp", None)), event)
        replays = bool(state.has_prior_operations())
        context = getattr(context, "lambda_context", None)
    execution = Execution(
        arn, name or name_of(context), started=payload.at, first=not replays, input=payload.input,
        metadata=metadata, tags=tags, platform={**execution_facts_of(context), "aws.lambda.durable_execution_arn": arn},
    )
    return Run(execution, "replay" if replays else "first run", payload.input, context, judge)


class _Start(NamedTuple):
    at: float | None
    input: Any


def _plain(operation: Mapping[str, Any]) -> _Start:
    """The execution itself, which is the first of its operations."""
    payload = _mapping(operation.get("ExecutionDetails")).get("InputPayload")
    return _Start(_seconds(operation.get("StartTimestamp")), NOTHING if payload is None else _parsed(payload))


def _mapping(value: Any) -> Mapping[str, Any]:
    """A part of the event; those that the SDK's own test runner passes are its objects, not yet JSON."""
    to_json = getattr(value, "to_json_dict", None)
    if callable(to_json) and not isinstance(value, type):
        value = to_json()
    return value if isinstance(value, Mapping) else {}


def _seconds(moment: Any) -> float | None:
    """Events give milliseconds since the epoch, the SDK dates."""
    if isinstance(moment, datetime):
        return moment.timestamp()
    return moment / 1000 if isinstance(moment, (int, float)) and moment > 0 else None


def _parsed(text: Any) -> Any:
    """What the service has as JSON."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


# How an invocation ends


def _judge_answer(invocation: Invocation, answer: Any) -> None:
    """The SDK's answer to the service. What it raises instead, the service tries again: then the execution goes on."""
    told = _mapping(answer)
    status = told.get("Status")
    invocation.note({"aws.lambda.durable_status": status})
    execution = invocation.state.execution
    if status == "FAILED":
        error = _mapping(told.get("Error"))
        text = ": ".join(str(one) for one in (error.get("ErrorType"), error.get("ErrorMessage")) if one)
        invocation.fail(text or "the execution failed")
        if execution is not None:
            execution.finish(Outcome.ERROR, error=text or "the execution failed")
    elif status == "SUCCEEDED" and execution is not None:
        # A result that is too large for an answer is with the service already, and left out of it.
        execution.finish(Outcome.OK, output=_parsed(told.get("Result")) if told.get("Result") else NOTHING)


def _judge_result(invocation: Invocation, result: Any) -> None:
    """What the user's function returned, below the SDK."""
    if isinstance(result, _Suspension):
        invocation.note({"aws.lambda.durable_status": "PENDING"})
    else:
        invocation.note({"aws.lambda.durable_status": "SUCCEEDED"})
        if invocation.state.execution is not None:
            invocation.state.execution.finish(Outcome.OK, output=result)


class _Suspension(dict):  # type: ignore[type-arg]
    """Stands for what was raised to end an invocation that has to wait; as its output it reads like an answer."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(Status="PENDING")
        self.error = error


def guarded_durably(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Guard the handler of a durable function, or what its decorator wraps, as :func:`guarded` does."""
    with contain("share the context with the threads of durable functions"):
        _share_context()
    with contain("tell waits from errors"):
        PROCESS.sdk.ignore_exceptions(_suspends)
    return _raise_suspensions(guarded(_keep_suspensions(function), begin))


def _keep_suspensions(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns what ``function`` raises in order to wait, since that is no error. What else it raises
    is noted as the end of the execution, if it is that."""

    @functools.wraps(function)
    def run(*args: Any, **keywords: Any) -> Any:
        try:
            return function(*args, **keywords)
        except BaseException as error:
            waits = False
            with contain("tell a wait from an error"):
                waits = _suspends(error)
            if waits:
                return _Suspension(error)
            with contain("close the root of an execution"):
                _note_failure(error, args[1] if len(args) > 1 else keywords.get("context"))
            raise

    return run


def _raise_suspensions(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises again what :func:`_keep_suspensions` has kept."""

    @functools.wraps(function)
    def run(*args: Any, **keywords: Any) -> Any:
        result = function(*args, **keywords)
        if isinstance(result, _Suspension):
            raise result.error
        return result

    return run


def _note_failure(error: BaseException, context: Any) -> None:
    """Below the SDK: an exception fails the execution, unless it is one by which the SDK asks for another try."""
    invocation = current_invocation()
    if invocation is None or invocation.state.execution is None or not hasattr(context, "execution_context"):
        return
    if isinstance(error, Exception) and not _is(error, "InvocationError", "BackgroundThreadError"):
        invocation.note({"aws.lambda.durable_status": "FAILED"})
        invocation.state.execution.finish(Outcome.ERROR, error=f"{type(error).__name__}: {error}")


def _suspends(error: BaseException) -> bool:
    return _is(error, "SuspendExecution")


def _is(error: BaseException, *names: str) -> bool:
    """True if it is one of the SDK's of these names, or derives from one."""
    return any(one.__name__ in names and one.__module__.startswith(_SDK) for one in type(error).__mro__)


# Threads


class _SharingExecutor(ThreadPoolExecutor):
    """Its threads get the context of whoever submits."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        return super().submit(contextvars.copy_context().run, fn, *args, **keywords)


def _share_context() -> None:
    """Have the SDK's threads share the context of their caller; doing it twice changes nothing."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_SDK) and vars(module).get("ThreadPoolExecutor") is ThreadPoolExecutor:
            module.ThreadPoolExecutor = _SharingExecutor  # type: ignore[attr-defined]
