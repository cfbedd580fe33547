"""Handlers that get the key in the first invocation."""

import os

import braintrust

from trace_guard_lambda import guard_handler


@guard_handler(project="p")
def environment(event, context):
    os.environ["BRAINTRUST_API_KEY"] = os.environ["SECRET"]
    return 1


@guard_handler(project="p")
def logger(event, context):
    if event["n"] == 0:
        braintrust.init_logger(project="p", api_key=os.environ["SECRET"])
    with braintrust.start_span(name="child"):
        return 1


@guard_handler(project="p")
def none(event, context):
    return 1
