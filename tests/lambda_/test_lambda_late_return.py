"""Handlers that return after the watchdog has fired and before Lambda ends them, under AWS's own runtime client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted_keys import PLANTED_KEY
from support import PROJECT_ID, normal, traces_in

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer, Fault, InvokeResult, LambdaSandbox

CODE = Path(__file__).parents[1] / "functions" / "late_return"
FACTS = ("faas.invocation_id", "faas.coldstart")

Setup = tuple[BraintrustServer, LambdaSandbox]


def is_marked(row: Row) -> bool:
    """True if the span has the watchdog's marks."""
    return (row.get("metadata") or {}).get("trace_guard", {}).get("closed_by") == "watchdog"


@pytest.fixture(scope="module", params=["open", "closed"])
def setup(request: pytest.FixtureRequest) -> Iterator[Setup]:
    """A server and a function that delivers to it: with an internal extension, and before its next event."""
    with BraintrustServer() as server:
        server.add_project("project", PROJECT_ID)
        env = {
            "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
            "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "TRACE_GUARD_RESERVE": "0.3",
        }
        with LambdaSandbox("app.handler", code=CODE, env=env, timeout=1.5, registration=request.param) as function:
            function.invoke({})
            server.clear()
            yield server, function


@pytest.fixture(autouse=True)
def healed(setup: Setup) -> Iterator[None]:
    yield
    setup[0].heal()
    setup[1].invoke({})
    setup[0].clear()


def invoke(setup: Setup, event: Any, near: bool, fault: Any = lambda exchange: exchange.answer()) -> InvokeResult:
    """Invoke the function. For a late return, it continues when the watchdog's request has arrived, which meets this
    fault."""
    server, function = setup
    (function.tmp / "arrived").unlink(missing_ok=True)
    (function.tmp / "near").unlink(missing_ok=True)
    if near:
        (function.tmp / "near").touch()

        def injure(exchange: Any) -> Any:
            (function.tmp / "arrived").touch()
            return fault(exchange)

        server.fail("/logs3", Fault("let go", injure, applies=lambda rows: any(map(is_marked, rows))), times=1)
    return function.invoke(event)


def plain(rows: list[Row]) -> list[Row]:
    """The rows of a trace without values that differ from one invocation to the next."""
    return [
        {**row, "metadata": {key: value for key, value in row.get("metadata", {}).items() if key not in FACTS}}
        for row in normal(rows)
    ]


@pytest.mark.parametrize("event", [{}, {"fails": True}, {"async": True}], ids=json.dumps)
def test_the_real_end_wins(setup: Setup, event: Any) -> None:
    """A handler that returns or raises within the reserve has the same trace as one in good time, in each field of
    each span, although all spans were sent as timed out."""
    server, function = setup
    results = [invoke(setup, event, near) for near in (False, True)]
    assert [result.status for result in results] == ["error" if "fails" in event else "ok"] * 2
    assert results[1].seconds >= 1.2
    server.wait_for(lambda: not any(map(is_marked, server.span_rows())), 2)
    in_time, late = map(plain, traces_in(server.span_rows()))
    assert late == in_time
    assert sum(is_marked(row) for request in server.requests for row in request.rows) == 4
    assert server.open_spans() == []
    said = [line for line in function.log.splitlines() if "trace-guard" in line]
    assert [re.sub(r".*trace-guard: (.*) was left open.*", r"\1", line) for line in said] == [
        "span 'forgotten' started at app.py:24"
    ]
    (root,) = (row for row in late if row["span_id"] == "root")
    assert root["metadata"]["trace_guard"] == {"outcome": "error" if "fails" in event else "ok"}
