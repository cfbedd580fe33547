"""Rows that the SDK is slow to make, or can't make: ``queue_scenarios.py NAME [ARGUMENT]``; prints one line of JSON."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import braintrust

import trace_guard
from trace_guard.runtime.state import PROCESS

ARGUMENT = sys.argv[2] if len(sys.argv) > 2 else ""


def broken_masking() -> Any:
    """A masking function that fails for one span of several."""
    def mask(value: Any) -> Any:
        if value == "poison":
            if ARGUMENT == "returns":
                circle: list[Any] = []
                circle.append(circle)
                return circle
            raise {"error": ValueError, "exit": SystemExit, "interrupt": KeyboardInterrupt}[ARGUMENT]
        return value

    braintrust.set_masking_function(mask)
    guard = trace_guard.Guard(project="mine", flush_timeout=10)
    began = time.monotonic()
    with guard.invocation("root") as invocation:
        braintrust.start_span(name="good", input="fine").end()
        braintrust.start_span(name="bad", input="poison").end()
        braintrust.start_span(name="left open", input="poison")
        braintrust.start_span(name="after", input="fine too").end()
    delivery = invocation.delivery
    return [delivery.verdict.value, delivery.error, time.monotonic() - began]


def broken_masking_beside() -> Any:
    """Invocations side by side, one of which logs a value that no row can be made of."""
    def mask(value: Any) -> Any:
        if value == "poison":
            raise SystemExit
        return value

    braintrust.set_masking_function(mask)
    guard = trace_guard.Guard(project="mine")
    logged, verdicts = threading.Event(), {}

    def serve(name: str, then: Any) -> None:
        with guard.invocation(name) as invocation:
            braintrust.start_span(name=f"step of {name}", input=name).end()
            then()
        verdicts[name] = [invocation.delivery.verdict.value, invocation.delivery.error]

    def log_and_wait() -> None:
        logged.set()
        fine.join(20)  # whose end empties the queue

    fine = threading.Thread(target=serve, args=("fine", lambda: logged.wait(20)))
    fine.start()
    serve("poison", log_and_wait)
    return verdicts


def slow_masking() -> Any:
    """A masking function that takes longer than anybody waits."""
    stuck = threading.Event()

    def mask(value: Any) -> Any:
        stuck.wait(60)
        return value

    braintrust.set_masking_function(mask)
    guard = trace_guard.Guard(project="mine", flush_timeout=0.5)
    with guard.invocation("root") as invocation:
        braintrust.start_span(name="step", input="fine").end()
    delivery = invocation.delivery
    return [delivery.verdict.value, delivery.error, PROCESS.sdk.pending, guard.flush(0.2)]


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()), flush=True)
    print(time.time(), file=sys.stderr, flush=True)
