"""A function that does what its event names."""

import asyncio
import os
import sys
import time

import braintrust

from trace_guard_lambda import guard_handler

LOOPS = []


@braintrust.traced
def tool(word):
    return word.upper()


@guard_handler
def handler(event, context):
    return DO[event["do"]](event, context)


@guard_handler(name="async", tags=["nightly"], metadata={"tenant": "acme"}, capture_output=False)
async def async_handler(event, context):
    LOOPS.append(asyncio.get_running_loop())
    await asyncio.sleep(0)
    return {"one_loop": len(set(map(id, LOOPS))) == 1, "calls": len(LOOPS)}


def answer(event, context):
    return {"answer": tool(event.get("word", "yes"))}


def fail(event, context):
    raise ValueError("no such order")


def forget(event, context):
    braintrust.start_span("forgotten").start_span("within")
    return {"answer": "yes"}


def leave(event, context):
    sys.exit(3)


def hang(event, context):
    with braintrust.start_span("slow call"):
        time.sleep(60)


def die(event, context):
    with braintrust.start_span("last words"):
        os._exit(7)


DO = {function.__name__: function for function in (answer, fail, forget, leave, hang, die)}
