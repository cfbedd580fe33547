"""HTTP functions: their responses, their errors, and their parents."""

from __future__ import annotations

from typing import Any

import braintrust
import pytest
from azure_host import triggers
from azure_host.deployment import Deployments, outcome_of, root_of
from azure_host.installation import needs_runtime
from support import PROJECT_ID

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend

pytestmark = needs_runtime


@pytest.mark.parametrize(
    ("function", "query", "status", "outcome"),
    [
        ("status", {"code": "200", "body": "fine"}, 200, "ok"),
        ("status", {"code": "404"}, 404, "ok"),
        ("status", {"code": "500"}, 500, "error"),
        ("status", {"code": "503", "body": "busy"}, 503, "error"),
        ("text", {}, 200, "ok"),
        ("out", {"code": "201"}, 201, "ok"),
        ("out", {"code": "502"}, 502, "error"),
    ],
)
def test_a_response_judges_the_invocation(
    deploy: Deployments, function: str, query: dict[str, str], status: int, outcome: str
) -> None:
    """A response in any form reaches the client unchanged, and a status from 500 on makes its trace an error."""
    answer, rows = deploy("azure_http").invoke(function, triggers.http(query=query))
    response = answer.value or answer.outputs.get("response")
    assert response is None or response == "just text" or response["status"] == status
    root = root_of(rows)
    assert outcome_of(root) == outcome
    assert root["metadata"]["http.response.status_code"] == status
    assert ("error" in root) == (outcome == "error")


def test_no_response_is_an_error(deploy: Deployments) -> None:
    """A function that returns nothing for a request fails with the worker's own message, and its trace is an error."""
    answer, rows = deploy("azure_http").invoke("nothing", triggers.http())
    assert "unable to encode outgoing TypedData" in answer.error
    assert outcome_of(root_of(rows)) == "error"


def test_the_request_and_response_are_logged(deploy: Deployments) -> None:
    """The request and the response are logged on the root, without secrets."""
    fired = triggers.http(
        "POST", "https://shop.azurewebsites.net/api/ask/7?fast=yes&code=the-function-key", query={
            "fast": "yes", "token": "t0psecret"}, route={"order": "7"}, body={"q": "?", "password": "t0psecret"},
        headers={"authorization": "Bearer t0psecret", "x-functions-key": "t0psecret"},
    )
    answer, rows = deploy("azure_triggers").invoke("http", fired)
    assert (answer.value["status"], answer.value["body"]) == (202, b"7 yes")
    root = root_of(rows)
    assert root["input"]["method"] == "POST"
    assert root["input"]["path"] == "/api/ask/7"
    assert root["input"]["body"]["q"] == "?"
    assert "7 yes" in str(root["output"])
    assert "t0psecret" not in str(rows)
    assert "the-function-key" not in str(rows)


@pytest.mark.parametrize("function", ["http", "http_async"])
def test_an_error_reaches_the_host(deploy: Deployments, function: str) -> None:
    """An exception of an HTTP function reaches the host, with the function's frames, and its trace."""
    answer, rows = deploy("azure_triggers").invoke(function, triggers.http("POST", route={"order": "7"}, body="raise"))
    assert (answer.ok, answer.error) == (False, "LookupError: no such order")
    assert f"in {function}" in answer.stack
    assert outcome_of(root_of(rows)) == "error"


@pytest.fixture
def caller() -> dict[str, Any]:
    """A caller's span, and the headers that name it."""
    guard = Guard(backend=MemoryBackend(), project_id=PROJECT_ID)
    try:
        with guard.invocation("caller") as invocation:
            span = invocation.span
            headers: dict[str, str] = {}
            braintrust.inject_trace_context(headers)
            return {"headers": headers, "span": span.span_id, "root": span.root_span_id}
    finally:
        guard.close(0)


def test_a_caller_in_braintrust_is_the_parent(deploy: Deployments, caller: dict[str, Any]) -> None:
    """A request whose headers name a Braintrust span has its trace below that span."""
    _, rows = deploy("azure_http").invoke("text", triggers.http(headers=caller["headers"]))
    (row,) = rows
    assert (row["span_parents"], row["root_span_id"]) == ([caller["span"]], caller["root"])


@pytest.mark.parametrize("kind", ["service_bus", "event_hub"])
def test_a_sender_in_braintrust_is_the_parent(deploy: Deployments, caller: dict[str, Any], kind: str) -> None:
    """A message whose properties name a Braintrust span has its trace below that span."""
    fired = getattr(triggers, kind)("one", properties=caller["headers"])
    (row,) = deploy("azure_triggers").invoke(kind, fired)[1]
    assert (row["span_parents"], row["root_span_id"]) == ([caller["span"]], caller["root"])


@pytest.mark.parametrize("by_host", [False, True], ids=["headers", "host"])
def test_another_tracer_is_no_parent(deploy: Deployments, by_host: bool) -> None:
    """A client's or the host's traceparent without Braintrust's baggage is recorded as metadata only."""
    carrier = f"00-{'a' * 32}-{'b' * 16}-01"
    trace = {"trace_parent": carrier, "trace_state": "s=1", "attributes": {"OperationName": "ask"}}
    _, rows = deploy("azure_http").invoke(
        "text", triggers.http(headers={} if by_host else {"traceparent": carrier}), trace=trace if by_host else {},
    )
    root = root_of(rows)
    assert root["root_span_id"] != "a" * 32
    assert "a" * 32 in str(root["metadata"])


@pytest.mark.parametrize(
    ("app", "path", "status", "outcome"),
    [
        ("azure_asgi", "orders/7", 201, "ok"), ("azure_asgi", "unavailable", 503, "error"),
        ("azure_wsgi", "orders/7", 201, "ok"),
    ],
)
def test_a_web_application(deploy: Deployments, app: str, path: str, status: int, outcome: str) -> None:
    """An ASGI or WSGI application is guarded by one call: its responses are unchanged, and each request is a trace."""
    deployed = deploy(app)
    (function,) = deployed.host.start().functions
    answer, rows = deployed.invoke(
        function, triggers.http(url=f"https://shop.azurewebsites.net/api/{path}", route={"route": f"api/{path}"})
    )
    assert answer.value["status"] == status
    if outcome == "ok":
        assert answer.value["body"] == b"order 7"
        route = "/api/orders/{order}" if app == "azure_asgi" else "/api/orders/7"  # Starlette has routes
        assert root_of(rows)["span_attributes"]["name"] == f"GET {route}"
    root = root_of(rows)
    assert outcome_of(root) == outcome
    assert root["metadata"]["http.response.status_code"] == status


@pytest.mark.parametrize(
    ("app", "path"), [("azure_asgi", "fails"), ("azure_wsgi", "fails"), ("azure_wsgi", "unavailable")]
)
def test_an_application_that_raises(deploy: Deployments, app: str, path: str) -> None:
    """An exception that leaves an application makes its trace an error. So does a 5xx of a WSGI application, for
    which Azure's SDK raises."""
    deployed = deploy(app)
    (function,) = deployed.host.start().functions
    answer, rows = deployed.invoke(function, triggers.http(url=f"https://shop.azurewebsites.net/api/{path}"))
    assert not answer.ok
    assert outcome_of(root_of(rows)) == "error"
