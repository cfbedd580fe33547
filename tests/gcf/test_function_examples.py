"""The example functions, under the framework's own command."""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted_keys import PLANTED_KEY

from trace_guard import LocalStore
from trace_guard.backends.summaries import spans_of, summarize
from trace_guard.testing import BraintrustServer, CloudRunSandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

EXAMPLES = Path(__file__).parents[2] / "examples"
PUBSUB = {
    "ce-specversion": "1.0", "ce-id": "1", "ce-type": "google.cloud.pubsub.topic.v1.messagePublished",
    "ce-source": "//pubsub.googleapis.com/projects/p/topics/inbox",
}


@pytest.fixture(scope="module")
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer() as made:
        yield made


def sandbox(example: str, target: str, server: BraintrustServer | None) -> CloudRunSandbox:
    env = {} if server is None else {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url,
    }
    return CloudRunSandbox(
        f"functions-framework --target {target} --host 127.0.0.1", code=EXAMPLES / example, env=env, service=target
    )


@pytest.fixture(scope="module")
def asked(server: BraintrustServer) -> Iterator[CloudRunSandbox]:
    with sandbox("cloud_function_http", "ask", server) as function:
        yield function


@pytest.fixture(scope="module")
def sorting(server: BraintrustServer) -> Iterator[CloudRunSandbox]:
    with sandbox("cloud_function_event", "sort_message", server) as function:
        yield function


def post(function: CloudRunSandbox, body: Any, **headers: str) -> Any:
    return function.request(
        "POST", "/", headers={"content-type": "application/json", **headers}, body=json.dumps(body).encode()
    )


def trace(server: BraintrustServer, project: str) -> tuple[Any, list[tuple[str, str | None, int]]]:
    """The only trace on the server, and the tree of its spans."""
    (found,) = summarize(server.span_rows(), {server.add_project(project): project})
    spans = spans_of(server.span_rows(), found.root_span_id)
    return found, [(span.name, span.type, span.depth) for span in spans]


def test_an_answer(server: BraintrustServer, asked: CloudRunSandbox) -> None:
    """The function answers, and its trace is in Braintrust with the last byte."""
    server.clear()
    response = post(asked, {"question": "Where is order 1042?"})
    assert (response.status, asked.frozen) == (200, True)
    assert response.json() == {"answer": "Your parcel is with the carrier."}
    found, tree = trace(server, "support-bot")
    assert (found.project, found.outcome, found.in_progress) == ("support-bot", "ok", False)
    assert tree == [("POST ask", "task", 0), ("find_order", "tool", 1), ("ask_model", "llm", 1)]


def test_an_exception(server: BraintrustServer, asked: CloudRunSandbox) -> None:
    """An exception of the function is a 500 for the caller, and an error with its traceback in the trace."""
    server.clear()
    assert post(asked, {"question": "Where is order 1043?"}).status == 500
    found, _ = trace(server, "support-bot")
    assert found.outcome == "error"
    (root,) = [row for row in server.span_rows() if row["span_parents"] is None]
    assert root["error"].rstrip().endswith("KeyError: '1043'")


def test_a_request_without_a_question(server: BraintrustServer, asked: CloudRunSandbox) -> None:
    """A request that the function refuses is not an error of the function."""
    server.clear()
    assert post(asked, {}).status == 400
    assert trace(server, "support-bot")[0].outcome == "ok"


def test_an_event(server: BraintrustServer, sorting: CloudRunSandbox) -> None:
    """The example's message is sorted, and the trace has it as text."""
    server.clear()
    event = json.loads((EXAMPLES / "cloud_function_event" / "event.json").read_text())
    assert post(sorting, event, **PUBSUB).status == 200
    found, tree = trace(server, "support-desk")
    assert (found.outcome, tree) == ("ok", [(f"{PUBSUB['ce-type']} process", "task", 0), ("ask_model", "llm", 1)])
    (root,) = [row for row in server.span_rows() if row["span_parents"] is None]
    assert json.loads(root["input"]["message"]["data"]) == {"ticket": 7, "text": "Where is my invoice?"}
    assert (root["output"], root["tags"]) == ({"ticket": 7, "team": "billing"}, ["inbox"])


def test_an_event_that_fails(server: BraintrustServer, sorting: CloudRunSandbox) -> None:
    """A message that can't be sorted is rejected, so that it is delivered again, and the trace has the reason."""
    server.clear()
    message = {"message": {"data": base64.b64encode(b"{}").decode()}}
    assert post(sorting, message, **PUBSUB).status == 500
    assert trace(server, "support-desk")[0].outcome == "error"


def test_without_a_key() -> None:
    """Without a key the function works too, and its trace is in the local store."""
    with sandbox("cloud_function_http", "ask", None) as function:
        assert post(function, {"question": "Where is order 1042?"}).status == 200
        (found,) = LocalStore(function.trace_guard_dir / "traces.db").traces()
        assert (found.name, found.in_progress) == ("POST ask", False)
