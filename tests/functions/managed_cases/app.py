"""A function that does what its event names and returns which worker ran it."""

import os
import time

import braintrust

from trace_guard import current_invocation, default_guard
from trace_guard_lambda import guard_handler

LAST = []


@braintrust.traced
def tool(word):
    return word.upper()


@guard_handler
def handler(event, context):
    before = LAST[-1].delivery if LAST else None
    LAST.append(current_invocation())
    with braintrust.start_span(f"work {event['n']}"):
        word = tool(str(event["n"]))
        if event.get("until"):
            while not os.path.exists(event["until"]):
                time.sleep(0.01)
        if event.get("seconds"):
            time.sleep(event["seconds"])
    return {
        "n": word, "pid": os.getpid(), "journal": default_guard().pipeline.journal().path.name,
        "before": before and [before.verdict.value, before.way],
    }
