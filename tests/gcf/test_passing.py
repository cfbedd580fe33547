"""What passes through the middleware and the decorator reaches the other side as it was given."""

from __future__ import annotations

import asyncio
import importlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import flask
import pytest

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_gcf import AsyncGuardMiddleware, GuardMiddleware, guard_handler

SENT = [(b"set-cookie", b"a=1"), (b"Authorization", b"Bearer x")]
TRACEPARENT = (b"traceparent", b"00-" + b"a" * 32 + b"-" + b"b" * 16 + b"-01")


def as_list(headers: list[Any]) -> Any:
    return headers


def as_iterator(headers: list[Any]) -> Any:
    return iter(headers)


def as_generator(headers: list[Any]) -> Any:
    return (header for header in headers)


async def receive() -> Any:
    return {"type": "http.request"}


@pytest.mark.parametrize("form", [as_list, as_iterator, as_generator])
def test_headers_of_asgi(guard: Guard, backend: MemoryBackend, form: Callable[[Any], Any]) -> None:
    """Headers of a request and of a response reach the other side in full, also from an iterator, and the application's
    result is returned."""
    seen: list[Any] = []
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> str:
        seen.extend(scope["headers"])
        await send({"type": "http.response.start", "status": 200, "headers": form(SENT)})
        await send({"type": "http.response.body", "body": b"x"})
        return "result"

    async def send(message: Any) -> None:
        sent.extend(message.get("headers", ()))

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": form([*SENT, TRACEPARENT])}
    assert asyncio.run(AsyncGuardMiddleware(app, guard=guard)(scope, receive, send)) == "result"
    assert seen == [*SENT, TRACEPARENT]
    assert sent == SENT
    assert ["end" in row["metrics"] for row in backend.rows()] == [True]
    assert backend.rows()[0]["metadata"]["http.response.status_code"] == 200


@pytest.mark.parametrize("missing", [
    {"headers": None}, {"headers": ...}, {"query_string": "a=b"}, {"query_string": None}, {"method": b"GET"},
    {"path": b"/"}, {"headers": [(b"a",), ("b", "c"), (b"content-length", 5)]},
])
def test_loose_scopes(guard: Guard, backend: MemoryBackend, missing: dict[str, Any]) -> None:
    """A scope that lacks headers, or has text in place of bytes, is passed on unchanged, and the request is traced."""
    usual = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    scope = {name: value for name, value in {**usual, **missing}.items() if value is not ...}
    seen: list[Any] = []

    @guard_handler
    async def endpoint(request: Any) -> None:
        pass

    async def app(scope: Any, receive: Any, send: Any) -> None:
        from starlette.requests import Request

        seen.append(dict(scope))
        await endpoint(Request(scope))
        await send({"type": "http.response.start", "status": 204, "headers": None})
        await send({"type": "http.response.body", "body": None})

    async def send(message: Any) -> None:
        pass

    asyncio.run(AsyncGuardMiddleware(app, guard=guard)(dict(scope), receive, send))
    assert seen == [scope]
    assert [row["metadata"]["trace_guard"]["outcome"] for row in backend.rows()] == ["ok"]


@pytest.mark.parametrize("form", [as_list, as_iterator, as_generator])
@pytest.mark.parametrize("how", ["by position", "by name", "with exc_info"])
def test_headers_of_wsgi(guard: Guard, backend: MemoryBackend, form: Callable[[Any], Any], how: str) -> None:
    """A server receives the call of ``start_response`` as the application makes it."""
    headers = [("Set-Cookie", "a=1"), ("Content-Length", "1")]
    got: list[Any] = []

    def app(environ: Any, start_response: Any) -> Any:
        if how == "by position":
            start_response("200 OK", form(headers))
        elif how == "by name":
            start_response(response_headers=form(headers), status="200 OK")
        else:
            start_response("200 OK", form(headers), None)
        return [b"x"]

    def start_response(status: str, response_headers: Any, *rest: Any) -> None:
        got.extend([status, list(response_headers), *rest])

    environ = {"REQUEST_METHOD": "POST", "PATH_INFO": "/", "CONTENT_LENGTH": 5, "HTTP_X": 7, "QUERY_STRING": None}
    assert GuardMiddleware(app, guard=guard)(environ, start_response) == [b"x"]
    assert got == ["200 OK", headers, *([None] if how == "with exc_info" else [])]
    (root,) = backend.rows()
    assert root["metadata"]["http.request.body.size"] == 5
    assert root["metadata"]["http.response.status_code"] == 200


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("form", [as_list, as_iterator, as_generator])
def test_headers_in_a_result_of_flask(
    guard: Guard, backend: MemoryBackend, form: Callable[[Any], Any], streams: bool
) -> None:
    """Headers that a function returns beside a body reach the client, also from an iterator."""
    app = flask.Flask(__name__)

    @app.get("/")
    @guard_handler(guard=guard)
    def root() -> Any:
        headers = [("Set-Cookie", "a=1"), ("X-Own", "b")]
        body = iter(["a", "b"]) if streams else "ab"
        return body, 201, form(headers)

    response = app.test_client().get("/")
    assert (response.data, response.status_code) == (b"ab", 201)
    assert (response.headers["Set-Cookie"], response.headers["X-Own"]) == ("a=1", "b")
    assert ["end" in row["metrics"] for row in backend.rows()] == [True]


@pytest.mark.parametrize("names", [("sig", "frame"), ()])
def test_the_handler_of_uvicorn(guard: Guard, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """``Server.handle_exit`` of uvicorn takes its arguments by name and by position, as without the guard."""
    server = importlib.import_module("uvicorn.server")
    shutdown = importlib.import_module("trace_guard_gcf.shutdown")
    monkeypatch.setattr(server.Server, "handle_exit", server.Server.handle_exit)
    shutdown._wrap_servers()
    woken: list[int] = []
    monkeypatch.setattr(shutdown._thread, "wake", lambda: woken.append(1))
    config = importlib.import_module("uvicorn").Config(lambda: None)
    for number in (signal.SIGINT, signal.SIGTERM):
        one = server.Server(config)
        if names:
            one.handle_exit(**dict(zip(names, (number, None), strict=True)))
        else:
            one.handle_exit(number, None)
        assert one.should_exit
    assert woken == [1]


def test_a_complete_body_does_not_wait_for_the_application(guard: Guard, backend: MemoryBackend) -> None:
    """A body with a Content-Length reaches the client although the application works on before the final message."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        limit = time.monotonic() + 20
        while len(sent) < 2 and time.monotonic() < limit:
            await asyncio.sleep(0.01)
        assert ["end" in row["metrics"] for row in backend.rows()] in ([], [False])
        await send({"type": "http.response.body", "body": b"", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async def send(message: Any) -> None:
        sent.append(message.get("body"))
        if len(sent) == 4:
            assert ["end" in row["metrics"] for row in backend.rows()] == [True]

    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}
    asyncio.run(AsyncGuardMiddleware(app, guard=guard, flush="before-response")(scope, receive, send))
    assert sent == [None, b"ab", b"", b""]


class Lines:
    """A body that is iterated by nobody."""

    def __iter__(self) -> Iterator[bytes]:
        yield b"x"


@pytest.mark.parametrize(("method", "status"), [("HEAD", "200 OK"), ("GET", "204 No Content"), ("GET", "304 Same")])
def test_a_body_that_is_never_iterated(guard: Guard, backend: MemoryBackend, method: str, status: str) -> None:
    """A response without a body is closed and delivered before the server sends it, whether it iterates or not."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, [])
        return Lines()

    items = GuardMiddleware(app, guard=guard)({"REQUEST_METHOD": method, "PATH_INFO": "/"}, lambda *_: None)
    assert ["end" in row["metrics"] for row in backend.rows()] == [True]
    assert list(items) == [b"x"]
