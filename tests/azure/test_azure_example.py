"""The example app, in Microsoft's own runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from azure_host import triggers
from azure_host.deployment import Deployment, Deployments, root_of
from azure_host.installation import needs_runtime

from trace_guard import LocalStore
from trace_guard.backends.summaries import TraceSummary, spans_of, summarize

pytestmark = needs_runtime
EXAMPLE = Path(__file__).parents[2] / "examples" / "azure_functions"


@pytest.fixture
def app(deploy: Deployments) -> Deployment:
    # The example sets its project itself.
    return deploy("azure_functions", folder=EXAMPLE, TRACE_GUARD_PROJECT_ID="")


def question(text: str | None) -> Any:
    return triggers.http("POST", body={} if text is None else {"question": text})


def trace(app: Deployment) -> tuple[TraceSummary, list[tuple[str, str | None, int]]]:
    """The only trace that has arrived, and the tree of its spans."""
    rows = app.server.span_rows()
    (found,) = summarize(rows, {app.server.add_project("support-bot"): "support-bot"})
    return found, [(span.name, span.type, span.depth) for span in spans_of(rows, found.root_span_id)]


def test_an_answer(app: Deployment) -> None:
    """The function answers, and its trace is in Braintrust by then."""
    answer, _ = app.invoke("ask", question("Where is order 1042?"))
    assert json.loads(answer.value["body"]) == {"answer": "Your parcel is with the carrier."}
    found, tree = trace(app)
    assert (found.project, found.outcome, found.in_progress) == ("support-bot", "ok", False)
    assert tree == [("POST ask", "task", 0), ("find_order", "tool", 1), ("ask_model", "llm", 1)]


def test_an_exception(app: Deployment) -> None:
    """An exception of the function reaches the host, and is recorded with its traceback in the trace."""
    answer, rows = app.invoke("ask", question("Where is order 1043?"))
    assert answer.error == "KeyError: '1043'"
    assert trace(app)[0].outcome == "error"
    assert root_of(rows)["error"].rstrip().endswith("KeyError: '1043'")


def test_a_request_without_a_question(app: Deployment) -> None:
    """A request that the function refuses is not an error of the function."""
    assert app.invoke("ask", question(None))[0].value["status"] == 400
    assert trace(app)[0].outcome == "ok"


def test_a_ticket(app: Deployment) -> None:
    """A message of the queue is sorted and traced. A message that can't be sorted is an error for the host too."""
    answer, _ = app.invoke("sort_ticket", triggers.queue('{"ticket": 7, "text": "Where is my invoice?"}'))
    assert json.loads(answer.outputs["sorted_ticket"]) == {"ticket": 7, "team": "billing"}
    found, tree = trace(app)
    assert (found.outcome, tree) == ("ok", [("sort_ticket", "task", 0), ("ask_model", "llm", 1)])
    assert app.invoke("sort_ticket", triggers.queue("{}"))[0].error == "KeyError: 'text'"
    assert trace(app)[0].outcome == "error"


def test_without_a_key(deploy: Deployments) -> None:
    """Without a key the app works too, and its traces are in the local store."""
    app = deploy("azure_functions", folder=EXAMPLE, BRAINTRUST_API_KEY="")
    assert app.host.start().invoke("ask", question("Where is order 1042?")).value["status"] == 200
    (found,) = LocalStore(app.directory / "traces.db").traces()
    assert (found.name, found.in_progress) == ("POST ask", False)
