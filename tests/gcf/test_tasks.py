"""Tasks and spans that outlive their request, and clients that leave."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import braintrust
import pytest
from gcf.gcf_client import root_of
from gcf.services import named
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from support import A_WHILE, until

from trace_guard import Guard, current_invocation
from trace_guard.backends.memory import MemoryBackend
from trace_guard.rows import visible
from trace_guard_gcf import AsyncGuardMiddleware

SCOPE = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": []}


async def nothing_received() -> Any:
    return {"type": "http.request"}


def request(
    guard: Guard, endpoint: Callable[[Any], Coroutine[Any, Any, None]], receive: Any = nothing_received,
    after: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> None:
    """Run a request whose endpoint is called with ``receive`` before the response."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await endpoint(receive)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})

    async def send(message: Any) -> None:
        pass

    async def run() -> None:
        await AsyncGuardMiddleware(app, guard=guard)({**SCOPE}, receive, send)
        if after is not None:
            await after()

    asyncio.run(run())
    guard.flush()


def test_an_invocation_in_a_task_that_outlives_the_request(guard: Guard, backend: MemoryBackend) -> None:
    """An invocation in a task of its own is not closed with its request, and keeps its error. The request's span is
    its parent."""
    tasks: list[Any] = []
    over = asyncio.Event()

    async def work() -> None:
        async with guard.invocation("work"):
            with braintrust.start_span(name="step"):
                await over.wait()
            raise ValueError("too late")

    async def endpoint(receive: Any) -> None:
        tasks.append(asyncio.create_task(work()))
        await asyncio.sleep(0)

    async def after() -> None:
        def is_over() -> bool:
            return "end" in named(backend.rows()).get("GET /", {"metrics": {}})["metrics"]

        await asyncio.to_thread(until, is_over, what="the end of the request")
        assert "end" not in named(backend.rows())["work"]["metrics"]
        over.set()
        with pytest.raises(ValueError, match="too late"):
            await tasks[0]

    request(guard, endpoint, after=after)
    rows = named(map(visible, backend.rows()))
    assert rows["GET /"]["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert rows["work"]["metadata"]["trace_guard"] == {"outcome": "error"}
    assert "too late" in rows["work"]["error"]
    assert rows["work"]["span_parents"] == [rows["GET /"]["span_id"]]
    assert rows["step"]["span_parents"] == [rows["work"]["span_id"]]
    assert "trace_guard" not in (rows["step"].get("metadata") or {})


def test_an_invocation_in_the_task_of_the_request(guard: Guard, backend: MemoryBackend) -> None:
    """An invocation in the request's own task stays a plain span of it."""

    async def endpoint(receive: Any) -> None:
        outer = current_invocation()
        async with guard.invocation("within"):
            assert current_invocation() is outer

    request(guard, endpoint)
    assert set(named(backend.rows())) == {"GET /", "within"}


def test_invocations_in_tasks_that_the_request_awaits(guard: Guard, backend: MemoryBackend) -> None:
    """Invocations in tasks that the request awaits are closed on their own, below the request."""

    async def work(number: int) -> None:
        async with guard.invocation(f"work {number}"):
            await asyncio.sleep(0)

    async def endpoint(receive: Any) -> None:
        await asyncio.gather(*(work(number) for number in range(3)))
        assert current_invocation() is not None

    request(guard, endpoint)
    rows = named(backend.rows())
    assert len(rows) == 4
    assert {rows[f"work {number}"]["span_parents"][0] for number in range(3)} == {rows["GET /"]["span_id"]}
    assert {row["metadata"]["trace_guard"]["outcome"] for row in rows.values()} == {"ok"}


@pytest.mark.parametrize("fails", [False, True])
def test_a_span_that_its_code_ends_after_the_request(guard: Guard, backend: MemoryBackend, fails: bool) -> None:
    """A span that is open at the end of its request is marked; its own end lifts the mark and keeps its error."""
    spans: list[Any] = []

    async def endpoint(receive: Any) -> None:
        spans.append(braintrust.start_span(name="dependency"))
        spans.append(braintrust.start_span(name="forgotten"))

    async def after() -> None:
        guard.flush()
        marked = named(backend.rows())["dependency"]
        assert marked["metadata"]["trace_guard"]["reason"] == "left_open"
        if fails:
            spans[0].log(error="too late")
        spans[0].end()

    request(guard, endpoint, after=after)
    rows = named(map(visible, backend.rows()))
    assert "trace_guard" not in (rows["dependency"].get("metadata") or {})
    assert rows["dependency"].get("error") == ("too late" if fails else None)
    assert rows["dependency"]["metrics"]["end"] >= rows["GET /"]["metrics"]["end"]
    assert rows["forgotten"]["metadata"]["trace_guard"]["reason"] == "left_open"


def test_a_client_that_left_while_the_endpoint_looks(guard: Guard, backend: MemoryBackend) -> None:
    """A client that has left is told as such if the endpoint asks for it and answers all the same."""

    async def receive() -> Any:
        return {"type": "http.disconnect"}

    async def endpoint(receive: Any) -> None:
        assert (await receive())["type"] == "http.disconnect"

    request(guard, endpoint, receive)
    (root,) = backend.rows()
    assert root["metadata"]["client_disconnected"] is True
    assert root["metadata"]["trace_guard"] == {"outcome": "ok"}


def test_rows_of_no_request_leave_at_once(backend: MemoryBackend, directory: Path) -> None:
    """In a server, rows that belong to no running invocation are sent without the linger."""
    guard = Guard(backend=backend, dir=directory, project="p", linger=600)
    AsyncGuardMiddleware(lambda *_: None, guard=guard)  # type: ignore[arg-type, return-value]
    braintrust.init_logger(project_id="p").start_span(name="at import").end()
    until(lambda: "end" in named(backend.rows()).get("at import", {}).get("metrics", {}))
    with guard.invocation("request"):
        braintrust.start_span(name="within").end()
        assert "within" not in named(backend.rows())
    guard.close()


@pytest.mark.parametrize("flush", ["before-response", "after-response"])
def test_a_response_does_not_wait_for_its_background_task(guard: Guard, backend: MemoryBackend, flush: str) -> None:
    """Below a ``BaseHTTPMiddleware``, a response is complete although its background task waits for its end."""
    complete = asyncio.Event()

    async def work() -> None:
        await asyncio.wait_for(complete.wait(), A_WHILE)

    async def endpoint(request: Any) -> PlainTextResponse:
        return PlainTextResponse("x", background=BackgroundTask(work))

    async def pass_on(request: Any, call_next: Any) -> Any:
        return await call_next(request)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            complete.set()

    app = Starlette(
        routes=[Route("/", endpoint)],
        middleware=[
            Middleware(AsyncGuardMiddleware, guard=guard, flush=flush),
            Middleware(BaseHTTPMiddleware, dispatch=pass_on),
        ],
    )
    asyncio.run(app({**SCOPE}, nothing_received, send))
    guard.flush()
    assert root_of(backend)["metadata"]["trace_guard"] == {"outcome": "ok"}
