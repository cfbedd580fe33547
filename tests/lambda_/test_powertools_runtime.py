"""Powertools under AWS's own runtime client, and the examples that use it."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted_keys import PLANTED_KEY
from support import PROJECT_ID

from trace_guard import LocalStore
from trace_guard.testing import BraintrustServer, LambdaSandbox

TESTS = Path(__file__).parents[1]
EXAMPLES = TESTS.parent / "examples"
SQS, HTTP = EXAMPLES / "lambda_sqs", EXAMPLES / "lambda_http_powertools"
Rows = list[dict[str, Any]]


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer(latency=0.02) as server:
        server.add_project("project", PROJECT_ID)
        yield server


def sandbox(server: BraintrustServer, code: Path, **more: str) -> LambdaSandbox:
    environment = {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
        "TRACE_GUARD_PROJECT_ID": PROJECT_ID, **more,
    }
    return LambdaSandbox("app.handler", code=code, env=environment, function_name="tickets", timeout=3)


def request(path: str) -> dict[str, Any]:
    event = json.loads((HTTP / "event.json").read_text())
    event["rawPath"] = event["requestContext"]["http"]["path"] = path
    return dict(event)


def by_trace(rows: Rows) -> list[tuple[dict[str, Any], Rows]]:
    """Roots in the order of their starts, each with the other spans of its trace."""
    roots = sorted((row for row in rows if not row["span_parents"]), key=lambda row: float(row["metrics"]["start"]))
    return [
        (root, [row for row in rows if row["root_span_id"] == root["root_span_id"] and row is not root])
        for root in roots
    ]


def lines_of(log: str) -> list[dict[str, Any]]:
    """The lines that Powertools' Logger wrote."""
    return [json.loads(line) for line in log.splitlines() if line.startswith('{"level"')]


@pytest.mark.parametrize("order", ["outside", "inside"])
def test_with_all_of_powertools(server: BraintrustServer, order: str) -> None:
    """With Powertools' Logger, Tracer, Metrics and routes, and AWS's X-Ray SDK, every request's trace is named,
    judged and delivered, with the guard above or below them, and log lines have its ids."""
    with sandbox(server, TESTS / "functions" / "powertools_cases", ORDER=order) as function:
        found = [function.invoke(request(f"/tickets/{ticket}")) for ticket in ("5", "none", "broken", "slow", "7")]
        log = function.log
    assert [result.status for result in found] == ["ok", "ok", "ok", "timed_out", "ok"]
    assert [result.payload.get("statusCode") for result in found] == [200, 404, 500, None, 200]
    assert json.loads(found[0].payload["body"]) == {"id": "5", "xray": "AsyncAWSXRayRecorder"}
    assert server.open_spans() == []
    traces = by_trace(server.span_rows())
    assert {(root["span_attributes"]["name"], root["metadata"]["http.route"]) for root, _ in traces} == {
        ("GET /tickets/<ticket_id>", "/tickets/<ticket_id>")
    }
    assert [
        (root["metadata"]["trace_guard"]["outcome"], root["metadata"].get("http.response.status_code"))
        for root, _ in traces
    ] == [("ok", 200), ("ok", 404), ("error", 500), ("timed_out", None), ("ok", 200)]
    assert traces[2][0]["error"].rstrip().endswith("LookupError: the index is broken")
    lines = lines_of(log)
    ids = [(line["message"], line["braintrust_trace_id"], line["braintrust_span_id"]) for line in lines]
    expected = [
        line for root, (below, *_) in traces
        for line in (
            ("in the route", root["root_span_id"], root["span_id"]),
            ("in a span", root["root_span_id"], below["span_id"]),
        )
    ]
    assert ids == expected
    assert all(line["expected"] == line["braintrust_span_id"] for line in lines[1::2])
    assert all(line["xray_trace_id"] for line in lines)


def test_the_example_with_a_queue(server: BraintrustServer) -> None:
    """The example sorts its batch, names the failed message, and has a span for each message."""
    event = json.loads((SQS / "event.json").read_text())
    with sandbox(server, SQS) as function:
        result = function.invoke(event)
    bad = event["Records"][1]["messageId"]
    assert (result.status, result.payload) == ("ok", {"batchItemFailures": [{"itemIdentifier": bad}]})
    ((root, below),) = by_trace(server.span_rows())
    assert (root["metadata"]["records"], root["metadata"]["trace_guard"]["outcome"]) == (
        {"done": 1, "failed": 1}, "ok"
    )
    sorted_, failed = (row for row in below if row["span_attributes"]["name"] == "sort message")
    assert sorted_["output"] == {"ticket": 1041, "team": "billing"}
    assert sorted_["metadata"]["links"] == [
        {"traceparent": event["Records"][0]["messageAttributes"]["traceparent"]["stringValue"]}
    ]
    assert (failed["metadata"]["messaging.message.id"], failed["metadata"]["attempt"]) == (bad, 3)
    assert "JSONDecodeError" in failed["error"]
    assert [row["span_parents"] for row in below if row["span_attributes"]["name"] == "ask_model"] == [
        [sorted_["span_id"]]
    ]


def test_the_example_with_routes(server: BraintrustServer) -> None:
    """The example answers, its traces have the names and statuses of its routes, and its log has their ids."""
    with sandbox(server, HTTP) as function:
        found = [function.invoke(request(f"/orders/{order}/answer")).payload for order in ("1042", "7", "1043")]
        log = function.log
    assert [answer["statusCode"] for answer in found] == [200, 404, 503]
    assert json.loads(found[0]["body"]) == {"answer": "It arrives tomorrow."}
    traces = by_trace(server.span_rows())
    assert [
        (root["span_attributes"]["name"], root["metadata"]["trace_guard"]["outcome"],
         root["metadata"]["http.response.status_code"])
        for root, _ in traces
    ] == [
        ("GET /orders/<order_id>/answer", outcome, status)
        for outcome, status in (("ok", 200), ("ok", 404), ("error", 503))
    ]
    assert traces[2][0]["error"].rstrip().endswith("ConnectionError: the carrier has not answered")
    names = [(line["message"], line["braintrust_trace_id"]) for line in lines_of(log)]
    first, _, third = (root["root_span_id"] for root, _ in traces)
    assert names == [("asked the model", first), ("answered", first), ("the carrier can't be asked", third)]


@pytest.mark.parametrize("code", [SQS, HTTP], ids=lambda code: str(code.name))
def test_the_examples_need_neither_key_nor_guard(code: Path) -> None:
    """The examples give the same answers without a key, with their traces in the local store, and with tracing
    disabled."""
    event = json.loads((code / "event.json").read_text())
    answers = []
    for variables in ({}, {"TRACE_GUARD_DISABLED": "true"}):
        with LambdaSandbox("app.handler", code=code, env=variables, timeout=10) as function:
            answers.append(copy.deepcopy(function.invoke(event).payload))
            kept = (function.trace_guard_dir / "traces.db").exists()
            if kept:
                store = LocalStore(function.trace_guard_dir / "traces.db")
                assert [trace.in_progress for trace in store.traces()] == [False]
                store.close()
            assert kept is not bool(variables)
    assert answers[0] == answers[1]
