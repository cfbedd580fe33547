"""A function that continues after its watchdog has fired, until it is released."""

import os
import time
from pathlib import Path

import braintrust

from trace_guard import current_invocation
from trace_guard_lambda import guard_handler

PLACE = Path(os.environ["TMPDIR"])


def linger():
    """For a late return, wait until the watchdog has fired and its rows have arrived."""
    while (PLACE / "near").exists() and (current_invocation().outcome is None or not (PLACE / "arrived").exists()):
        time.sleep(0.001)


def work(event):
    with braintrust.start_span("outer", input="question") as outer:
        inner = outer.start_span("inner")
        outer.start_span("forgotten")
        linger()
        with outer.start_span("late") as late:
            braintrust.flush()
            late.log(output="at the last moment")
        inner.log(output="thought", metadata={"tokens": 7})
        inner.end()
        outer.log(output="answer")
    if event.get("fails"):
        raise ValueError("no such order")
    return "result"


@guard_handler(name="root")
def plain(event, context):
    return work(event)


@guard_handler(name="root")
async def coroutine(event, context):
    return work(event)


def handler(event, context):
    return (coroutine if event.get("async") else plain)(event, context)
