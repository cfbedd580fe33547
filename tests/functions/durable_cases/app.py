"""Durable functions, guarded above and below the SDK's decorator. Their input names what they do."""

import braintrust
from aws_durable_execution_sdk_python import durable_execution
from aws_durable_execution_sdk_python.config import Duration
from aws_durable_execution_sdk_python.exceptions import InvocationError

from trace_guard_lambda import guard_handler


@braintrust.traced
def ask(question):
    return f"{question}?"


def order(event, context):
    """Two steps with a wait between them. The second invocation replays the first step."""
    if event.get("raises"):
        raise ValueError(event["raises"])
    with braintrust.start_span("plan"):
        first = context.step(lambda step: ask("who"), name="first")
    if event.get("try_again"):
        raise InvocationError("not now")
    with braintrust.start_span("rest"):
        context.wait(Duration.from_seconds(5), name="pause")
    if event.get("fails"):
        raise RuntimeError(event["fails"])
    second = context.step(lambda step: ask("why"), name="second")
    if event.get("branches"):
        context.map([1, 2], lambda item_context, item, index, items: ask(f"branch {item}"), name="branches")
    return {"answers": [first, second]}


def patient(event, context):
    """A step that succeeds in a later attempt."""
    return order({**event, "try_again": False}, context)


def make(way, client, guard=None, function=order):
    """The function, guarded in one of three ways."""
    guarded = guard_handler(guard=guard, name="order", tags=["nightly"], metadata={"tenant": "acme"})
    if way in ("below", "both"):
        function = guarded(function)
    function = durable_execution(function, boto3_client=client)
    return guarded(function) if way in ("above", "both") else function
