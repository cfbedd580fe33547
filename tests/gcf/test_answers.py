"""Responses and exceptions of guarded functions in the framework."""

from __future__ import annotations

import sys
from typing import Any

import flask
import pytest
from gcf_client import root_of

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_gcf import guard_handler

EVENT = {"ce-specversion": "1.0", "ce-id": "e1", "ce-type": "order.placed", "ce-source": "//shop"}
PLAIN = "@functions_framework.http\n@guard_handler\ndef"
ON_LOOP = "@functions_framework.aio.http\n@guard_handler\nasync def"

ANSWERS = {
    "text": (PLAIN, "return 'fine'", 200, "ok", "fine"),
    "object": (PLAIN, "return {'token': 5, 'n': 1}", 200, "ok", {"token": "[redacted]", "n": 1}),
    "with a status": (PLAIN, "return 'made', 201", 201, "ok", {"status_code": 201, "body": "made"}),
    "with headers": (PLAIN, "return 'fine', {'x': 'y'}", 200, "ok", "fine"),
    "with all": (PLAIN, "return 'fine', '202 Accepted', {'x': 'y'}", 202, "ok", {"status_code": 202, "body": "fine"}),
    "client's fault": (PLAIN, "return 'no', 404", 404, "ok", {"status_code": 404, "body": "no"}),
    "ours": (PLAIN, "return 'no', 502", 502, "error", {"status_code": 502, "body": "no"}),
    "response": (PLAIN, "return flask.jsonify(n=1)", 200, "ok", {"status_code": 200, "body": {"n": 1}}),
    "response, ours": (PLAIN, "return flask.Response('no', 503)", 503, "error", {"status_code": 503, "body": "no"}),
    "empty response": (PLAIN, "return flask.Response(status=204)", 204, "ok", {"status_code": 204}),
    "no text": (PLAIN, "return flask.Response(b'x', content_type='image/png')", 200, "ok",
                {"status_code": 200, "body": "<1 bytes of image/png>"}),
    "typed, nothing": (
        "@functions_framework.typed(type('T', (), {'from_dict': dict}))\n@guard_handler\ndef", "return None", 200, "ok",
        None,
    ),
    "async text": (ON_LOOP, "return 'fine'", 200, "ok", "fine"),
    "async, ours": (ON_LOOP, "return {'n': 1}, 500", 500, "error", {"status_code": 500, "body": {"n": 1}}),
    "async response": (
        ON_LOOP, "return starlette.responses.JSONResponse({'n': 1}, 418)", 418, "ok",
        {"status_code": 418, "body": {"n": 1}},
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_a_response_decides_the_outcome(serve: Any, backend: MemoryBackend, case: str) -> None:
    """The root has the status and body of a response in any form that the framework accepts. A status from 500 on is
    an error."""
    kind, body, status, outcome, output = ANSWERS[case]
    response = serve(f"{kind} main(request):\n    {body}").post("/ask", json={})
    row = root_of(backend)
    assert response.status_code == status
    assert row["metadata"]["http.response.status_code"] == status
    assert row["metadata"]["trace_guard"] == {"outcome": outcome}
    assert row.get("error") == (f"HTTP {status}" if outcome == "error" else None)
    assert row.get("output") == output


@pytest.mark.parametrize("kind", [PLAIN, ON_LOOP], ids=["plain", "async"])
@pytest.mark.parametrize(
    ("between", "status", "outcome"), [("", 500, "error"), ("@or_else", 200, "ok")], ids=["alone", "below another"]
)
def test_a_forgotten_return_is_an_error_if_the_framework_gets_it(
    serve: Any, backend: MemoryBackend, kind: str, between: str, status: int, outcome: str
) -> None:
    """An HTTP function that returns nothing gets a 500, so it has failed. Below another decorator, which may return
    a response, it has not."""
    framework, guard, define = kind.split("\n")
    client = serve(f"""
import functools, inspect
def or_else(function):
    @functools.wraps(function)
    def plain(request):
        return function(request) or "else"
    @functools.wraps(function)
    async def on_loop(request):
        return await function(request) or "else"
    return on_loop if inspect.iscoroutinefunction(function) else plain
{framework}
{between}
{guard}
{define} main(request):
    pass
""")
    assert client.get("/").status_code == status
    row = root_of(backend)
    assert row["metadata"]["trace_guard"] == {"outcome": outcome}
    assert row.get("error") == ("HTTP 500: the function returned no response" if outcome == "error" else None)


RAISED = {
    "abort": (PLAIN, "flask.abort(404)", 404, "ok"),
    "redirect": (PLAIN, "flask.abort(flask.redirect('/x'))", 302, "ok"),
    "abort, ours": (PLAIN, "flask.abort(503)", 503, "error"),
    "exception": (PLAIN, "raise ValueError('no such order')", 500, "error"),
    "async": (ON_LOOP, "raise starlette.exceptions.HTTPException(403)", 403, "ok"),
    "async, ours": (ON_LOOP, "raise starlette.exceptions.HTTPException(501)", 501, "error"),
    "async exception": (ON_LOOP, "raise ValueError('no such order')", 500, "error"),
    "for an event": (
        "@functions_framework.cloud_event\n@guard_handler\ndef", "flask.abort(404)", 404, "error",
    ),
    "for a type": (
        "@functions_framework.typed(type('T', (), {'from_dict': dict}))\n@guard_handler\ndef", "flask.abort(404)", 500,
        "error",
    ),
}


@pytest.mark.parametrize("case", RAISED)
def test_an_exception_is_an_error_unless_it_is_a_response(serve: Any, backend: MemoryBackend, case: str) -> None:
    """An HTTPException below 500 is a response and no error for a request. It is an error for an event, which it
    rejects, and for a typed function, which the framework answers with 500. Any other exception is an error."""
    kind, body, status, outcome = RAISED[case]
    response = serve(f"{kind} main(request):\n    {body}").post("/", json={}, headers=EVENT if "event" in case else {})
    row = root_of(backend)
    assert response.status_code == status
    assert row["metadata"]["trace_guard"] == {"outcome": outcome}
    assert ("Traceback" in row.get("error", "")) == (outcome == "error")
    if outcome == "ok":
        assert row["metadata"]["http.response.status_code"] == status


@pytest.mark.parametrize("kind", [PLAIN, ON_LOOP], ids=["plain", "async"])
def test_the_trace_includes_a_stream(serve: Any, backend: MemoryBackend, kind: str) -> None:
    """The trace includes the whole streamed response, and user code sets its output."""
    client = serve(f"""
import braintrust
def words():
    for word in ("a", "b"):
        with braintrust.start_span(word):
            yield word
    current_invocation().set_output("ab")
async def on_loop():
    for word in words():
        yield word
{kind} main(request):
    return {"words()" if kind is PLAIN else "starlette.responses.StreamingResponse(on_loop())"}
""")
    assert client.get("/").text == "ab"
    rows = {row["span_attributes"]["name"]: row for row in backend.rows()}
    assert set(rows) == {"GET main", "a", "b"}
    assert rows["a"]["span_parents"] == [rows["GET main"]["span_id"]]
    assert rows["GET main"]["output"] == "ab"
    assert rows["GET main"]["metrics"]["end"] >= rows["b"]["metrics"]["end"]


def test_the_middleware_judges_the_response(serve: Any, backend: MemoryBackend) -> None:
    """Under the middleware, the response is judged as it is sent, not as the function returned it."""
    client = serve("""
import functools
from trace_guard_gcf import GuardMiddleware
flask.current_app.wsgi_app = GuardMiddleware(flask.current_app.wsgi_app)
def rescues(function):
    @functools.wraps(function)
    def rescued(request):
        function(request)
        return "rescued"
    return rescued
@functions_framework.http
@rescues
@guard_handler
def main(request):
    return "no", 502
""")
    assert client.get("/").status_code == 200
    row = root_of(backend)
    assert (row["metadata"]["trace_guard"], row.get("error")) == ({"outcome": "ok"}, None)
    assert row["metadata"]["http.response.status_code"] == 200


def test_a_function_of_another_framework_may_return_nothing(
    guard: Guard, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside the Functions Framework, a result without a status has an unknown status."""

    @guard_handler
    def main(request: Any) -> None:
        return None

    monkeypatch.setattr(sys.modules[__name__], "main", main, raising=False)
    with flask.Flask("app").test_request_context("/"):
        main(flask.request)
    row = root_of(backend)
    assert row["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert "http.response.status_code" not in row["metadata"]
