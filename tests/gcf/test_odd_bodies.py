"""Unusual bodies, which must reach the client as without the guard."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from typing import Any
from wsgiref.util import setup_testing_defaults

import braintrust
import flask
import pytest

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_gcf import AsyncGuardMiddleware, GuardMiddleware, guard_handler


class Parts:
    """An iterable that can be iterated several times."""

    def __iter__(self) -> Iterator[bytes]:
        for part in (b"a", b"b"):
            with braintrust.start_span(name="part"):
                yield part


def in_a_tuple() -> Any:
    return flask.Response(Parts()), 201


def without_headers() -> Any:
    return iter(Parts()), 200, None


def with_a_length() -> Any:
    return flask.Response(Parts()), 200, {"Content-Length": "2"}


@pytest.mark.parametrize("answer", [in_a_tuple, without_headers, with_a_length])
def test_a_tuple_streams_too(guard: Guard, backend: MemoryBackend, answer: Callable[[], Any]) -> None:
    """The trace includes a streamed response in a tuple to its end, with the tuple's status."""
    app = flask.Flask(__name__)
    app.get("/")(guard_handler(guard=guard, name="root")(answer))
    response = app.test_client().get("/")
    assert (response.data, response.status_code) == (b"ab", 201 if answer is in_a_tuple else 200)
    spans = {row["span_attributes"]["name"]: row for row in backend.rows()}
    assert {row["root_span_id"] for row in backend.rows()} == {spans["root"]["root_span_id"]}
    assert len(backend.rows()) == 3
    assert spans["root"]["metrics"]["end"] >= spans["part"]["metrics"]["end"]
    assert "client_disconnected" not in spans["root"]["metadata"]


@pytest.mark.parametrize("status", [200, 204, 304])
def test_a_tuple_without_a_body_on_the_wire(guard: Guard, backend: MemoryBackend, status: int) -> None:
    """For HEAD, 204 and 304 the server does not iterate the body. The trace is closed at once, without a disconnect."""
    app = flask.Flask(__name__)
    app.get("/")(guard_handler(guard=guard, name="root")(lambda: (iter(Parts()), status)))
    client = app.test_client()
    assert (client.head("/") if status == 200 else client.get("/")).status_code == status
    (root,) = [row for row in backend.rows() if not row["span_parents"]]
    assert "client_disconnected" not in root["metadata"]
    assert root["metadata"]["trace_guard"] == {"outcome": "ok"}


def test_a_response_may_be_sent_again(guard: Guard, backend: MemoryBackend) -> None:
    """A response object that a module returns several times has its body each time."""
    app, kept = flask.Flask(__name__), flask.Response(Parts())
    app.get("/")(guard_handler(guard=guard, name="root")(lambda: kept))
    assert [app.test_client().get("/").data for _ in range(2)] == [b"ab"] * 2


def writes(environ: Any, start_response: Any) -> Any:
    write = start_response("200 OK", [("Content-Length", "5")])
    write(b"hel")
    write(b"lo")
    yield from ()


def changes_its_mind(environ: Any, start_response: Any) -> Any:
    start_response("204 No Content", [])
    try:
        raise ValueError("too late")
    except ValueError:
        start_response("500 Oops", [("Content-Length", "4")], sys.exc_info())
    return iter([b"oops"])


@pytest.mark.parametrize("app", [writes, changes_its_mind])
def test_odd_applications_of_wsgi(guard: Guard, backend: MemoryBackend, app: Any) -> None:
    """Chunks that an application writes during iteration, and a replaced status, are sent unchanged."""

    def sent(app: Any) -> tuple[list[str], bytes]:
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        statuses, body = [], []

        def start_response(status: str, headers: Any, exc_info: Any = None) -> Any:
            statuses.append(status)
            return body.append

        items = app(environ, start_response)
        body.extend(items)
        getattr(items, "close", lambda: None)()
        return statuses, b"".join(body)

    assert sent(GuardMiddleware(app, guard=guard)) == sent(app)
    assert ["end" in row["metrics"] for row in backend.rows()] == [True]


def test_an_endless_answer_to_head(guard: Guard, backend: MemoryBackend) -> None:
    """For HEAD, the headers are sent and the trace is closed at once, whatever body the application sends."""
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while len(sent) < 5:
            await send({"type": "http.response.body", "body": b"x" * 1000, "more_body": True})

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if len(sent) == 1:
            assert ["end" in row["metrics"] for row in backend.rows()] == [True]

    async def receive() -> Any:
        return {"type": "http.request"}

    scope = {"type": "http", "method": "HEAD", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(AsyncGuardMiddleware(app, guard=guard, flush="before-response")(scope, receive, send))
    assert sent == ["http.response.start"] + ["http.response.body"] * 4
