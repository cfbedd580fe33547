"""What a user does while the gateway is in place, under each release of the SDK: ``gateway_scenarios.py NAME``.

Prints one line of JSON, which the tests compare.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from typing import Any

import braintrust

from trace_guard import Guard
from trace_guard_lambda import guard_handler

PROJECT_ID = "11111111-2222-3333-4444-555555555555"


@braintrust.traced
def tool(word: str) -> str:
    return word.upper()


def logger_before() -> Any:
    """A logger that is made once the guard has started, but before the first invocation; another in a handler."""
    def body(event: str, context: Any) -> str:
        if event == "second":
            braintrust.init_logger(project="a customer's").start_span("customer's").end()
        return tool(event)

    handler = guard_handler(name="root", project="guards own")(body)
    braintrust.init_logger(**{sys.argv[2]: sys.argv[3]})
    return [handler(event, None) for event in ("first", "second", "third")]


def logger_within() -> Any:
    """Loggers that a handler makes, for a customer each."""
    def body(event: str, context: Any) -> str:
        braintrust.init_logger(project=f"{event}'s").start_span("customer's", input=event).end()
        return tool(event)

    handler = guard_handler(name="root", project="guards own")(body)
    return [handler(event, None) for event in ("ann", "bob", "cyd")]


def key_by_keyword() -> Any:
    """Guards that are given a key as a keyword, one after the other, and what else the program asks the server."""
    if len(sys.argv) > 2:
        braintrust.login()
    for key in ("first key", "second key"):
        guard = Guard(project="project", api_key=key)
        with guard.invocation(key), braintrust.start_span(name="step"), suppress(Exception):
            _ = braintrust.load_prompt(project="project", slug="greeting").name  # there is none, but it is asked for
        guard.close()
    return None


def login_later() -> Any:
    """A login with a key of the user's own, once the guard has started."""
    handler = guard_handler(name="root", project="project")(lambda event, context: tool(event))
    braintrust.login(api_key="sk-planted-another")
    handler("after", None)
    return None


def login_elsewhere() -> Any:
    """A login to another server, once the ids of the first one are known."""
    handler = guard_handler(name="root", project="project")(lambda event, context: tool(event))
    handler("first", None)
    braintrust.login(app_url=sys.argv[2], api_key="sk-planted-another")
    handler("second", None)
    braintrust.start_span("outside").end()
    braintrust.flush()
    return None


def login_within() -> Any:
    """A login from within a handler, which gets its key from a vault."""
    logged_in = False

    def body(event: str, context: Any) -> str:
        nonlocal logged_in
        tool(event)
        if not logged_in:
            braintrust.login(api_key="sk-planted-another")
            logged_in = True
        return tool(event)

    handler = guard_handler(name="root", project="project")(body)
    return [handler("first", None), handler("second", None)]


def black_hole() -> Any:
    """The seconds that a handler's own code takes, all of it that could wait for the network."""
    took = []

    def body(event: str, context: Any) -> str:
        began = time.monotonic()
        braintrust.init_logger(project="by name")
        with braintrust.start_span(name="step"):
            answer = tool(event)
        braintrust.flush()
        took.append(time.monotonic() - began)
        return answer

    handler = guard_handler(name="root")(body)
    assert [handler(str(turn), None) for turn in range(3)] == ["0", "1", "2"]
    return took


def recovers() -> Any:
    """A later process delivers what an earlier one could not."""
    return Guard().start().flush(20)


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))
