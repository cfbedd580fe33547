"""What a user does while the gateway is in place, under each release of the SDK: ``gateway_scenarios.py NAME``.

Prints one line of JSON, which the tests compare.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import braintrust

from trace_guard import Guard
from trace_guard_lambda import guard_handler

PROJECT_ID = "11111111-2222-3333-4444-555555555555"


@braintrust.traced
def tool(word: str) -> str:
    return word.upper()


def loggers_later() -> Any:
    """Loggers that the user makes once the guard has started, by id and then by name."""
    handler = guard_handler(name="root", project="guards own")(lambda event, context: tool(event))
    handler("before", None)
    braintrust.init_logger(project_id=PROJECT_ID)
    handler("by id", None)
    braintrust.init_logger(project="by name")
    handler("by name", None)
    return None


def login_later() -> Any:
    """A login with a key of the user's own, once the guard has started."""
    handler = guard_handler(name="root", project="project")(lambda event, context: tool(event))
    braintrust.login(api_key="another key")
    handler("after", None)
    return None


def login_elsewhere() -> Any:
    """A login to another server, once the ids of the first one are known."""
    handler = guard_handler(name="root", project="project")(lambda event, context: tool(event))
    handler("first", None)
    braintrust.login(app_url=sys.argv[2], api_key="another key")
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
            braintrust.login(api_key="another key")
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
