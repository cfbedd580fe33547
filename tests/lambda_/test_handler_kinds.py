"""Handlers of every kind and results of every kind, under Lambda's own runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from planted_keys import PLANTED_KEY

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer, InvokeResult, LambdaSandbox

CODE = Path(__file__).parents[1] / "functions" / "handler_cases"


def run(server: BraintrustServer, handler: str, *events: Any) -> list[tuple[InvokeResult, Row]]:
    """The result and the root of each event."""
    env = {"BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url}
    with LambdaSandbox(f"app.{handler}", code=CODE, env=env, timeout=5.0) as function:
        results = [function.invoke(event) for event in events]
    assert server.open_spans() == []
    roots = [row for row in server.span_rows() if not row["span_parents"]]
    assert len(roots) == len(events)
    return list(zip(results, roots, strict=True))


@pytest.mark.parametrize("handler", ["method", "of_class", "static", "callable_object"])
def test_handlers_of_every_kind(server: BraintrustServer, handler: str) -> None:
    """The root of a method, class method, static method or object with ``async __call__`` has event and id."""
    ((result, root),) = run(server, handler, {"n": 1})
    assert result.payload is True
    assert root["input"] == {"n": 1}
    assert root["metadata"]["faas.invocation_id"]
    assert (root["output"], root["metadata"]["trace_guard"]) == (True, {"outcome": "ok"})


@pytest.mark.parametrize("handler", ["generator", "asynchronous_generator"])
def test_a_generator_handler_is_an_error(server: BraintrustServer, handler: str) -> None:
    """A handler that is a generator has a root, which is an error as the invocation is."""
    ((result, root),) = run(server, handler, {"n": 1})
    assert result.payload["errorType"] == "Runtime.MarshalError"
    assert root["error"] == f"the result was not accepted: Runtime.MarshalError: {result.payload['errorMessage']}"
    assert root["metadata"]["trace_guard"] == {"outcome": "error", "reason": "result"}
    assert "output" not in root


def test_results_are_captured_as_the_runtime_sends_them(server: BraintrustServer) -> None:
    """The root's output is the JSON that the caller gets, and a result that is no JSON is an error of the root."""
    names = [
        "decimal", "named tuple", "plain", "date", "model", "generator", "asynchronous generator", "coroutine",
    ]
    for name, (result, root) in zip(
        names, run(server, "results", *({"result": name} for name in names)), strict=True
    ):
        if name in ("decimal", "named tuple", "plain"):
            assert (result.status, root["metadata"]["trace_guard"]) == ("ok", {"outcome": "ok"}), name
            assert root["output"] == result.payload, name
        else:
            text = f"the result was not accepted: Runtime.MarshalError: {result.payload['errorMessage']}"
            assert (result.status, root["error"], "output" in root) == ("error", text, False), name
