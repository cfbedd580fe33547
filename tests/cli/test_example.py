from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from planted_keys import PLANTED_KEY

from trace_guard import LocalStore
from trace_guard.backends.summaries import SpanSummary, spans_of, summarize
from trace_guard.testing import BraintrustServer, LambdaSandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="AWS's runtime client runs on Linux only")

AGENT = Path(__file__).parents[2] / "examples" / "lambda_agent"
ANSWER = {"answer": "Order 1042 arrives tomorrow."}
TREE = [
    ("support-agent", "task", 0), ("plan", "function", 1), ("ask", "llm", 2), ("find_order", "tool", 1),
    ("track_parcel", "tool", 1), ("ask", "llm", 1),
]


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer() as made:
        yield made


def sandbox(**env: str) -> LambdaSandbox:
    return LambdaSandbox("app.handler", code=AGENT, env=env, function_name="support-agent", timeout=10)


def event(scenario: str = "returns") -> dict[str, str]:
    return {"question": "Where is my order?", "scenario": scenario}


def tree(spans: list[SpanSummary]) -> list[tuple[str, str | None, int]]:
    return [(span.name, span.type, span.depth) for span in spans]


def test_trace(server: BraintrustServer) -> None:
    """The example answers, and its trace in Braintrust has the plan, the tools and the model calls."""
    variables = {"BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url}
    with sandbox(**variables) as function:
        result = function.invoke(event())
    assert (result.status, result.payload) == ("ok", ANSWER)
    (trace,) = summarize(server.span_rows(), {server.add_project("demo-agent"): "demo-agent"})
    assert (trace.project, trace.outcome, trace.in_progress) == ("demo-agent", "ok", False)
    assert tree(spans_of(server.span_rows(), trace.root_span_id)) == TREE


def test_without_a_key() -> None:
    """Without a key the example works too, and its trace is in the local store."""
    with sandbox() as function:
        assert function.invoke(event()).payload == ANSWER
        store = LocalStore(function.trace_guard_dir / "traces.db")
        (trace,) = store.traces()
        assert tree(store.spans(trace.root_span_id)) == TREE


def test_unguarded(server: BraintrustServer) -> None:
    """With trace-guard disabled the same code gives the same answers and sends nothing."""
    variables = {"BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url}
    with sandbox(TRACE_GUARD_DISABLED="true", **variables) as function:
        assert function.invoke(event()).payload == ANSWER
        assert function.invoke(event("leaves_open")).payload == ANSWER
        assert function.invoke(event("raises")).payload["errorType"] == "LookupError"
    assert server.requests == []
