"""The middleware for ASGI, around applications under uvicorn."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import braintrust
import pytest
from contract.suite import outcomes, parents
from gcf.services import UVICORN, Service, named, run
from support import until

from trace_guard import Guard, current_invocation
from trace_guard.backends.memory import MemoryBackend
from trace_guard.testing import BraintrustServer
from trace_guard_gcf.asgi import AsyncGuardMiddleware


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with BraintrustServer(latency=0.05) as server, run(UVICORN, server) as sandbox:
        yield Service(sandbox, server)


@pytest.mark.parametrize("kind", ["orders", "threads"])
def test_a_request_is_one_trace(service: Service, kind: str) -> None:
    """A request is a closed trace named after its route, with its spans below, delivered before the response ends."""
    response, rows = service.ask(f"/{kind}/7?token=secret")
    assert (response.status, response.json()) == (200, {"order": "7"})
    root = f"GET /{kind}/{{order}}"
    assert parents(rows) == {root: None, "look up 7": root}
    assert outcomes(rows) == {root: {"outcome": "ok"}, "look up 7": None}
    assert named(rows)[root]["input"] == {"method": "GET", "path": f"/{kind}/7", "query": {"token": "[redacted]"}}
    assert named(rows)[root]["tags"] == ["asgi"]
    facts = {key: value for key, value in named(rows)[root]["metadata"].items() if key.startswith(("http.", "url."))}
    assert facts == {
        "http.request.method": "GET", "url.path": f"/{kind}/7", "http.route": f"/{kind}/{{order}}",
        "http.response.status_code": 200,
    }


@pytest.mark.parametrize(
    ("path", "status", "error"),
    [
        ("/answers/404?how=raised", 404, None), ("/nowhere", 404, None), ("/answers/204", 204, None),
        ("/answers/503?how=raised", 503, "HTTPException: 503: Service Unavailable"),
        ("/answers/503", 503, "HTTP 503"), ("/answers/200?how=busy", 503, "app.Busy"),
    ],
)
def test_a_status_is_an_error_from_500_on(service: Service, path: str, status: int, error: str | None) -> None:
    """A response below 500 is no error. A response from 500 on is an error, with the exception behind it, if any."""
    response, rows = service.ask(path)
    (root,) = rows
    assert response.status == status == root["metadata"]["http.response.status_code"]
    assert root["metadata"]["trace_guard"]["outcome"] == ("error" if error else "ok")
    assert (root.get("error") or "").rstrip().endswith(error or "")
    assert bool(root.get("error")) == bool(error)


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/file", 200), ("HEAD", "/streams", 405)])
def test_every_kind_of_response(service: Service, method: str, path: str, status: int) -> None:
    """However a response ends on the wire, its trace has arrived by then."""
    response, rows = service.ask(path, method)
    assert (response.status, response.end) == (status, "complete")
    (root,) = rows
    assert root["metadata"]["trace_guard"] == {"outcome": "ok"}


def test_excluded_paths(service: Service) -> None:
    """A path that is excluded is served and not traced."""
    response, rows = service.ask("/healthz")
    assert (response.json(), rows) == ("well", [])


def test_a_decorator_below(service: Service) -> None:
    """A guarded function below the middleware opens no root of its own and adds its description to the request's
    root."""
    response, rows = service.ask("/decorated")
    assert response.json() == "done"
    assert parents(rows) == {"decorated": None, "within": "decorated"}


def test_an_exception_that_became_a_500(service: Service) -> None:
    """An exception that the framework turns into a 500 is recorded on the root with its type and traceback."""
    response, rows = service.ask("/fails", headers={"Connection": "close"})
    assert response.status == 500
    root = named(rows)["GET /fails"]
    assert outcomes(rows) == {"GET /fails": {"outcome": "error"}, "step": None}
    assert root["error"].startswith("Traceback")
    assert "in fails" in root["error"]
    assert root["error"].rstrip().endswith("ValueError: no such order")
    assert root["metadata"]["http.response.status_code"] == 500


def test_the_platforms_deadline() -> None:
    """A request that runs into the platform's timeout is closed and delivered before, with the span that was
    running."""
    with BraintrustServer() as server, run(UVICORN, server, timeout=1) as sandbox:
        _, rows = Service(sandbox, server).ask("/sleeps/30")
    timed_out = {"outcome": "timed_out", "closed_by": "watchdog", "reason": "deadline"}
    assert outcomes(rows) == {
        "GET /sleeps/30": {**timed_out, "running": "inner"}, "outer": timed_out, "inner": timed_out,
    }


# In this process

Send = Callable[[dict[str, Any]], Awaitable[None]]


async def call(app: Any, method: str = "GET", receive: Any = None, type: str = "http") -> list[dict[str, Any]]:
    """The messages that an application sends."""
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        # The state of the trace when the server gets a message.
        sent.append({**message, "live": current_invocation() is not None})

    scope = {"type": type, "method": method, "path": "/path", "query_string": b"", "headers": []}
    await AsyncGuardMiddleware(app)(scope, receive, send)
    return sent


def start(*headers: tuple[bytes, bytes], status: int = 200, **more: Any) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers), **more}


def body(content: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": content, "more_body": more}


TRAILERS = {"type": "http.response.trailers", "headers": []}
PATH = {"type": "http.response.pathsend", "path": "/file"}


@pytest.mark.parametrize(
    ("method", "messages", "live"),
    [
        ("GET", [start(), body(b"a", True), body(b"b", True), body(b"")], [True, True, True, False]),
        ("GET", [start(), body(b"a")], [True, False]),
        ("GET", [start((b"content-length", b"2")), body(b"a", True), body(b"b", True), body(b"")],
         [True, True, False, False]),
        ("GET", [start((b"content-length", b"0")), body(b"")], [False, False]),
        ("HEAD", [start(), body(b"a", True), body(b"")], [False, False, False]),
        ("GET", [start(status=304), body(b"")], [False, False]),
        ("GET", [start(trailers=True), body(b"a"), TRAILERS], [True, True, False]),
        ("GET", [start((b"content-length", b"9")), PATH], [True, False]),
    ],
)
def test_the_completing_message_waits(
    guard: Guard, backend: MemoryBackend, method: str, messages: list[dict[str, Any]], live: list[bool]
) -> None:
    """The message that completes the response is sent after the trace is closed, and earlier messages are not held."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        for message in messages:
            await send(message)

    sent = asyncio.run(call(app, method))
    assert sent == [{**message, "live": one} for message, one in zip(messages, live, strict=True)]
    assert [row["metadata"]["trace_guard"] for row in backend.rows()] == [{"outcome": "ok"}]


def test_an_exception_after_the_response(guard: Guard, backend: MemoryBackend) -> None:
    """An exception after the response reaches the server, and the trace ends with the response's outcome."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send(start())
        await send(body(b""))
        raise ValueError("in a background task")

    with pytest.raises(ValueError, match="in a background task"):
        asyncio.run(call(app))
    assert [row["metadata"]["trace_guard"] for row in backend.rows()] == [{"outcome": "ok"}]


def test_an_application_that_is_cancelled(guard: Guard, backend: MemoryBackend) -> None:
    """A request that is cancelled while its client is connected is an error, and the cancellation continues."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await asyncio.sleep(60)

    async def run_it() -> None:
        task = asyncio.create_task(call(app))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run_it())
    (root,) = until(lambda: [row for row in backend.rows() if "end" in row["metrics"]])
    assert root["metadata"]["trace_guard"] == {"outcome": "error"}
    assert "CancelledError" in root["error"]


@pytest.mark.parametrize("error", [OSError("gone"), asyncio.CancelledError(), None])
def test_a_client_that_went_away(guard: Guard, backend: MemoryBackend, error: BaseException | None) -> None:
    """An exception caused by a client disconnect is no error, and the trace records the disconnect."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        await send(start())
        await send(body(b"a", True))
        assert (await receive())["type"] == "http.disconnect"
        if error is not None:
            raise error

    async def receive() -> dict[str, str]:
        return {"type": "http.disconnect"}

    if error is None:
        asyncio.run(call(app, receive=receive))
    else:
        with pytest.raises(type(error)):
            asyncio.run(call(app, receive=receive))
    (root,) = backend.rows()
    assert (root["metadata"]["client_disconnected"], root["metadata"]["trace_guard"]) == (True, {"outcome": "ok"})
    assert "error" not in root


def test_a_websocket_passes_through(guard: Guard, backend: MemoryBackend) -> None:
    """A websocket passes unchanged and untraced."""

    async def app(scope: Any, receive: Any, send: Send) -> None:
        assert current_invocation() is None
        await send({"type": "websocket.accept"})

    assert asyncio.run(call(app, type="websocket")) == [{"type": "websocket.accept", "live": False}]
    assert backend.rows() == []


def test_the_end_of_the_server_delivers(guard: Guard, backend: MemoryBackend) -> None:
    """Spans outside requests are delivered before the application's shutdown is complete."""
    async def app(scope: Any, receive: Any, send: Send) -> None:
        logger = braintrust.init_logger(project="p", set_current=False)
        logger.start_span(name="housekeeping").end()
        await send({"type": "lifespan.shutdown.complete"})

    async def run_it() -> list[str]:
        arrived: list[str] = []

        async def send(message: dict[str, Any]) -> None:
            arrived.extend(row["span_attributes"]["name"] for row in backend.rows())

        await AsyncGuardMiddleware(app)({"type": "lifespan"}, None, send)  # type: ignore[arg-type]
        return arrived

    assert asyncio.run(run_it()) == ["housekeeping"]
