"""Durable functions: all invocations of one execution are one trace.

A wait ends the invocation with the status PENDING. Another invocation continues the execution later and replays the
code from its start. Each invocation is a span below the execution's own span, which stays open until the execution
succeeds or fails. The guard may stand above or below ``@durable_execution``. Above, it sees the service's event and
answer. Below, it sees the execution's input and result, and a wait is an exception.

The SDK runs user code on threads of its own, which start with an empty context unless plugins are used. Here they
always get the caller's context, so that spans find their parent.

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

from .arguments import Arguments
from .context import execution_facts_of, name_of

__all__ = ["Run", "guarded_durably", "run_of"]

_SDK = "aws_durable_execution_sdk_python"


class Run(NamedTuple):
    """One invocation of an execution.

    Attributes:
        execution: the execution that it belongs to.
        name: of its span.
        input: of the execution; NOTHING if the event does not have it.
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
    """The run that an event starts or continues; None if the event is not a durable execution's.

    Args:
        event: the service's event, or below ``@durable_execution`` the execution's input.
        context: Lambda's context, or below ``@durable_execution`` the SDK's.
        name, metadata, tags: of the execution's span; the name is by default the function's.
    """
    fields = _mapping(event)
    arn = fields.get("DurableExecutionArn")
    if isinstance(arn, str) and "CheckpointToken" in fields:
        values = _mapping(fields.get("InitialExecutionState")).get("Operations")
        operations = [_mapping(value) for value in values] if isinstance(values, list) else []
        judge: Callable[[Invocation, Any], None] = _judge_answer
        start = _start_of(next((each for each in operations if each.get("Type") == "EXECUTION"), {}))
        replays = any(operation.get("Type") not in ("EXECUTION", None) for operation in operations)
    else:
        arn = getattr(getattr(context, "execution_context", None), "durable_execution_arn", None)
        state = getattr(context, "state", None)
        if not isinstance(arn, str) or state is None:
            return None
        judge = _judge_result
        start = _Start(_seconds(getattr(state.get_execution_operation(), "start_timestamp", None)), event)
        replays = bool(state.has_prior_operations())
        context = getattr(context, "lambda_context", None)
    execution = Execution(
        arn, name or name_of(context), started=start.at, first=not replays, input=start.input,
        metadata=metadata, tags=tags, platform={**execution_facts_of(context), "aws.lambda.durable_execution_arn": arn},
    )
    return Run(execution, "replay" if replays else "first run", start.input, context, judge)


class _Start(NamedTuple):
    at: float | None
    input: Any


def _start_of(operation: Mapping[str, Any]) -> _Start:
    """The start time and input in the operation that stands for the execution itself."""
    payload = _mapping(operation.get("ExecutionDetails")).get("InputPayload")
    return _Start(_seconds(operation.get("StartTimestamp")), NOTHING if payload is None else _parsed(payload))


def _mapping(value: Any) -> Mapping[str, Any]:
    """A part of the event as a mapping. The SDK's test runner passes objects instead of JSON."""
    to_json = getattr(value, "to_json_dict", None)
    if callable(to_json) and not isinstance(value, type):
        value = to_json()
    return value if isinstance(value, Mapping) else {}


def _seconds(moment: Any) -> float | None:
    """Seconds since the epoch. Events have milliseconds, the SDK has datetimes."""
    if isinstance(moment, datetime):
        return moment.timestamp()
    return moment / 1000 if isinstance(moment, (int, float)) and moment > 0 else None


def _parsed(text: Any) -> Any:
    """The value of a JSON text, or the text itself if it is not JSON."""
    try:
        return json.loads(text)
    except (TypeError, ValueError):
        return text


# How an invocation ends


def _judge_answer(invocation: Invocation, answer: Any) -> None:
    """Record the SDK's answer to the service. An exception in its place makes the service retry, so the execution
    stays open."""
    fields = _mapping(answer)
    status = fields.get("Status")
    invocation.note({"aws.lambda.durable_status": status})
    execution = invocation.state.execution
    if status == "FAILED":
        error = _mapping(fields.get("Error"))
        text = ": ".join(str(part) for part in (error.get("ErrorType"), error.get("ErrorMessage")) if part)
        invocation.fail(text or "the execution failed")
        if execution is not None:
            execution.finish(Outcome.ERROR, error=text or "the execution failed")
    elif status == "SUCCEEDED" and execution is not None:
        # The SDK checkpoints a result that is too large for the answer, and leaves it out.
        execution.finish(Outcome.OK, output=_parsed(fields.get("Result")) if fields.get("Result") else NOTHING)


def _judge_result(invocation: Invocation, result: Any) -> None:
    """Record the result of the user's function, for a guard below the SDK."""
    if isinstance(result, _Suspension):
        invocation.note({"aws.lambda.durable_status": "PENDING"})
    else:
        invocation.note({"aws.lambda.durable_status": "SUCCEEDED"})
        if invocation.state.execution is not None:
            invocation.state.execution.finish(Outcome.OK, output=result)


class _Suspension(dict):  # type: ignore[type-arg]
    """The exception that ends an invocation at a wait. As the invocation's output it reads like the SDK's answer."""

    def __init__(self, error: BaseException) -> None:
        super().__init__(Status="PENDING")
        self.error = error


def guarded_durably(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    """Guard the handler of a durable function, or the function below ``@durable_execution``, as :func:`guarded`
    does."""
    with contain("share the context with the threads of durable functions"):
        _share_context()
    with contain("tell waits from errors"):
        PROCESS.sdk.ignore_exceptions(_suspends)
    return _raise_suspensions(guarded(_keep_suspensions(function), begin, ends_at_return=True))


def _keep_suspensions(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that returns the exception by which ``function`` waits, as that is no error. Any other exception that
    fails the execution is recorded as its end."""

    arguments = Arguments(function)

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
                _note_failure(error, arguments.find(args, keywords).context)
            raise

    return run


def _raise_suspensions(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that raises the exception that :func:`_keep_suspensions` returned."""

    @functools.wraps(function)
    def run(*args: Any, **keywords: Any) -> Any:
        result = function(*args, **keywords)
        if isinstance(result, _Suspension):
            raise result.error
        return result

    return run


def _note_failure(error: BaseException, context: Any) -> None:
    """Close the execution of a guard below the SDK as failed, unless the exception makes the service retry."""
    invocation = current_invocation()
    if invocation is None or invocation.state.execution is None or not hasattr(context, "execution_context"):
        return
    if isinstance(error, Exception) and not _is(error, "InvocationError", "BackgroundThreadError"):
        invocation.note({"aws.lambda.durable_status": "FAILED"})
        invocation.state.execution.finish(Outcome.ERROR, error=f"{type(error).__name__}: {error}")


def _suspends(error: BaseException) -> bool:
    return _is(error, "SuspendExecution")


def _is(error: BaseException, *names: str) -> bool:
    """True if the error is an instance of one of these classes of the SDK."""
    return any(base.__name__ in names and base.__module__.startswith(_SDK) for base in type(error).__mro__)


# Threads


class _SharingExecutor(ThreadPoolExecutor):
    """Runs each task in a copy of the submitter's context."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        return super().submit(contextvars.copy_context().run, fn, *args, **keywords)


def _share_context() -> None:
    """Make the SDK's threads run in their caller's context. A second call changes nothing."""
    for name, module in list(sys.modules.items()):
        if name.startswith(_SDK) and vars(module).get("ThreadPoolExecutor") is ThreadPoolExecutor:
            module.ThreadPoolExecutor = _SharingExecutor  # type: ignore[attr-defined]
