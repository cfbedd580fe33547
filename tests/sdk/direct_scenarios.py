"""Rows that go to the journal when they are logged: ``direct_scenarios.py NAME [ARGUMENT]``; prints a line of JSON."""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import os
import signal
import sys
import threading
import time
from typing import Any

ARGUMENT = sys.argv[2] if len(sys.argv) > 2 else ""
if os.environ.get("HIDE_ORJSON"):
    sys.modules["orjson"] = None  # type: ignore[assignment]

import braintrust  # noqa: E402
import braintrust.logger as bt  # noqa: E402

import trace_guard  # noqa: E402
from trace_guard.runtime.state import PROCESS  # noqa: E402


class Colour(str, enum.Enum):
    RED = "red"


VALUES: dict[str, Any] = {
    "plain": {"a": [1, 2.5, None, True, "text"], "b": {"c": "d"}},
    "text": "Grüße \U0001f600",
    "floats": [float("nan"), float("inf"), -0.0, 1e300, 1e-7],
    "keys": {1: "one", None: "none", "z": 1, "a": 2, 2.5: "x"},
    "surrogate": ["\ud800", {"\udfff": 1}],
    "integers": [2**53, 2**63, -(2**70), 2**200],
    "decimal": decimal.Decimal("1.10"),
    "time": [datetime.datetime(2026, 1, 2, 3, 4, 5), datetime.date(2026, 1, 2), datetime.timedelta(seconds=1)],
    "odd": [{1, 2}, (1, 2), b"bytes", Colour.RED, object],
}


def values() -> Any:
    """The rows of spans that log each value, through the queue or directly; and how many rows went directly."""
    direct = _count_direct()
    guard = trace_guard.Guard(project="mine")
    if ARGUMENT == "queue":
        braintrust.set_masking_function(lambda value: value)
    refused = []
    with guard.invocation("root"):
        for name, value in VALUES.items():
            span = braintrust.start_span(name=name)
            try:
                span.log(input=value, output={"nested": [value]}, metadata={"value": 1}, metrics={"tokens": 3})
                span.log(metadata={"more": {"deep": True}}, output={"other": 1})
            except Exception as error:  # noqa: BLE001 - an old release refuses a value
                refused.append([name, type(error).__name__])
            span.end()
    return [refused, len(direct)]


def merged() -> Any:
    """Rows of one span that went directly, merged by the SDK's own rules, and as the server has them."""
    direct = _count_direct()
    guard = trace_guard.Guard(project="mine")
    with guard.invocation("root"):
        span = braintrust.start_span(name="span", input={"a": 1})
        span.log(input={"b": [1]}, metadata={"x": {"y": 1}}, output="first")
        span.set_attributes(name="renamed")
        span.log(output={"second": True}, metadata={"x": {"z": None}}, error="broken")
        span.end()
    made = bt.merge_row_batch([json.loads(encoded) for row, encoded in direct if row["id"] == span.id])
    return [row for part in made for row in (part if isinstance(part, list) else [part])]


def ends() -> Any:
    """The row that ended a span, as it went directly, and as the SDK makes it for the same span; and how many rows a
    second end and a later value add."""
    direct = _count_direct()
    guard = trace_guard.Guard(project="mine")
    with guard.invocation("root"):
        span: Any = braintrust.start_span(name="span")
        ended = span.end(1796111034.25)
        row, encoded = direct[-1]
        background: Any = bt._state.global_bg_logger()
        plain, made = background.log, []
        background.log = lambda *rows: made.extend(lazy.get() for lazy in rows)
        bt.SpanImpl.log_internal.__wrapped__(span, None, {"metrics": {"end": ended}})  # type: ignore[attr-defined]
        background.log = plain
        count = len(direct)
        again = span.end()
        span.log(output=1)
    return [row, json.loads(encoded), *made, [again == ended, len(direct) - count]]


def kills() -> Any:
    """Processes that are killed as soon as a span has been logged or has ended."""
    guard = trace_guard.Guard(project="mine")
    with guard.invocation("before"):
        braintrust.start_span(name="before").end()
    for number in range(int(ARGUMENT)):
        pid = os.fork()
        if pid == 0:
            guard.invocation("root").open()
            span = braintrust.start_span(name=f"span {number}")
            if number % 2:
                span.log(output="answer")
            else:
                span.end()
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
    return None


def threads() -> Any:
    """The SDK's threads that have been started by an invocation with spans, and whether its queue has had a row."""
    guard = trace_guard.Guard(project="mine")
    with guard.invocation("root"):
        with braintrust.start_span(name="span") as span:
            span.log(output=1)
        names = [thread.name for thread in threading.enumerate()]
        return [PROCESS.sdk.has_been_used, "trace-guard-drain" in names]


def _count_direct() -> list[tuple[Any, bytes]]:
    taken: list[tuple[Any, bytes]] = []
    plain = PROCESS.sdk.gateway.take_row

    def take_row(row: Any, encoded: bytes) -> None:
        taken.append((row, encoded))
        plain(row, encoded)

    PROCESS.sdk.gateway.take_row = take_row  # type: ignore[method-assign]
    return taken


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()), flush=True)
    print(time.time(), file=sys.stderr, flush=True)
