"""What a program does under each release of the SDK: run as ``python release_scenarios.py SCENARIO``."""

from __future__ import annotations

import json
import os
import sys

import braintrust

from trace_guard_lambda import guard_handler

PROJECT_ID = os.environ.get("TRACE_GUARD_PROJECT_ID")


@braintrust.traced
def tool(word):
    return word.upper()


def handler(event, context):
    answer = tool(event["word"])
    if event.get("leave"):
        braintrust.start_span("left open").start_span("within")
    if event.get("fail"):
        raise ValueError("no such order")
    return answer


def call_it():
    """A handler that returns, one that raises, and one that leaves spans open."""
    guarded = guard_handler(name="handler")(handler)
    assert guarded({"word": "yes"}, None) == "YES"
    assert guarded({"word": "yes", "leave": True}, None) == "YES"
    error = None
    try:
        guarded({"word": "yes", "fail": True}, None)
    except ValueError as raised:
        error = raised
    assert str(error) == "no such order"


def plain():
    call_it()


def logger_by_id():
    braintrust.init_logger(project_id=PROJECT_ID)
    call_it()


def login_with_organisation():
    guard_handler(handler)
    braintrust.init_logger(project="users", org_name="second")
    call_it()


def outside():
    """Spans of no invocation, flushed by the user and left to the exit."""
    guard_handler(handler)
    logger = braintrust.init_logger(project="users")
    with logger.start_span(name="flushed"):
        pass
    braintrust.flush()
    print(json.dumps("flushed"), flush=True)
    sys.stdin.readline()
    logger.start_span(name="left to the exit")


if __name__ == "__main__":
    globals()[sys.argv[1]]()
