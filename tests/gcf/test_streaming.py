"""Streamed bodies, under real servers without CPU after the last byte."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import braintrust
import flask
import pytest
from contract.suite import outcomes, parents
from functions_framework.exceptions import RequestTimeoutException
from gcf.services import GTHREAD, UVICORN, Service, named, roots, run
from starlette.responses import StreamingResponse
from support import still_open, until

from trace_guard import Guard, Invocation, current_invocation
from trace_guard.backends.memory import MemoryBackend
from trace_guard.http.streaming import guard_async_result, guard_result
from trace_guard.testing import BraintrustServer, HttpResponse
from trace_guard_gcf.middleware import GuardMiddleware

SERVICES = {"gthread": GTHREAD, "uvicorn": UVICORN}
ROOT = "GET /streams"
BODY = b"token 000\ntoken 001\ntoken 002\n"
BELOW = {"model": ROOT, "token 0": "model", "token 1": "model", "token 2": "model", "after the last chunk": ROOT}


@pytest.fixture(scope="module", params=SERVICES)
def service(request: pytest.FixtureRequest) -> Iterator[Service]:
    with BraintrustServer(latency=0.05) as server, run(
        SERVICES[request.param], server, TRACE_GUARD_FLUSH_TIMEOUT="15"
    ) as sandbox:
        yield Service(sandbox, server)


@pytest.mark.parametrize("how", ["", "?length=1", "?context=1", "?context=1&length=1"])
def test_the_trace_covers_the_body(service: Service, how: str) -> None:
    """Spans of the body, including the code after its last chunk, are in the trace and have arrived with the last
    byte."""
    response, rows = service.ask("/streams" + how)
    assert (response.body, response.end) == (BODY, "complete")
    assert ("content-length" in response.headers) == ("length" in how)
    assert parents(rows) == {ROOT: None, **BELOW}
    assert outcomes(rows) == {ROOT: {"outcome": "ok"}, **dict.fromkeys(BELOW)}
    assert max(row["metrics"]["end"] for row in rows) == named(rows)[ROOT]["metrics"]["end"]


def test_an_iterator_that_runs_in_threads() -> None:
    """A plain iterator that Starlette runs in threads has its spans in the trace."""
    with BraintrustServer() as server, run(UVICORN, server) as sandbox:
        _, rows = Service(sandbox, server).ask("/streams?plain=1")
    assert parents(rows) == {ROOT: None, "token 0": ROOT, "token 1": ROOT, "token 2": ROOT}


@pytest.mark.parametrize("how", ["?gate=1", "?gate=1&length=1"])
def test_no_chunk_is_delayed(service: Service, how: str) -> None:
    """A chunk that does not complete the response is sent at once, while the trace is still open."""
    service.server.clear()
    with service.sandbox.stream("GET", "/streams" + how) as stream:
        first = next(stream)
        assert first.data == b"token 000\n"
        until(lambda: still_open(service.server.rows()))
        service.sandbox.request("GET", "/goes-on")
        rest = b"".join(chunk.data for chunk in stream)
    assert first.data + rest == BODY
    assert service.server.open_spans() == []


def test_a_client_that_goes_away(service: Service) -> None:
    """A client disconnect closes the trace and the body's spans, is recorded, and is no error."""
    response, _ = service.ask("/streams?parts=400&pause=0.02", read_at_most=20)
    assert response.end == "client_gone"

    def ended() -> bool:
        service.sandbox.request("GET", "/healthz")  # the instance has CPU only during requests
        rows = service.server.span_rows()
        return bool(roots(rows)) and not service.server.open_spans()

    until(ended)
    rows = named(service.server.span_rows())
    assert rows[ROOT]["metadata"]["client_disconnected"] is True
    assert rows[ROOT]["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert "error" not in rows[ROOT]
    assert len(rows) < 400


def test_an_error_in_the_middle(service: Service) -> None:
    """An exception in the middle of the body is recorded on the root and ends the response as without the guard."""
    response, _ = service.ask("/streams?fails=2")
    assert (response.body, response.end) == (BODY[:20], "connection_lost")
    rows = named(service.server.span_rows())
    assert rows[ROOT]["error"].rstrip().endswith("ValueError: the model is gone")
    assert rows[ROOT]["metadata"]["trace_guard"] == {"outcome": "error"}
    assert "end" in rows["model"]["metrics"]


def test_every_trace_arrives_in_time(service: Service) -> None:
    """Each trace of 200 requests, plain and streamed, is delivered while its request is in flight."""
    service.server.clear()
    kinds = ["/orders/{}", "/streams?mark={}", "/streams?length=1&mark={}", "/answers/204?mark={}"]

    def ask(number: int) -> tuple[str, HttpResponse]:
        path = kinds[number % 4].format(number)
        return path, service.sandbox.request("GET", path)

    with ThreadPoolExecutor(8) as clients:
        responses = dict(clients.map(ask, range(200)))
    assert {response.end for response in responses.values()} == {"complete"}
    arrived = {
        row["id"]: request.at for request in reversed(service.server.requests) for row in request.rows
        if "end" in (row.get("metrics") or {})
    }
    found = {}
    for root in roots(service.server.span_rows()):
        mark = root["input"]["query"].get("mark")
        length = "length=1&" if "length" in root["input"]["query"] else ""
        found[root["metadata"]["url.path"] + (f"?{length}mark={mark}" if mark else "")] = arrived[root["id"]]
    assert found.keys() == responses.keys()
    assert [path for path, at in found.items() if at > responses[path].ended_at] == []
    assert service.server.open_spans() == []


# In this process


@pytest.fixture(autouse=True)
def nothing_is_left() -> Iterator[None]:
    """Check that the next request in the same thread finds no current span or invocation."""
    yield
    assert braintrust.current_span() is braintrust.NOOP_SPAN
    assert current_invocation() is None


def opened(guard: Guard) -> Invocation:
    return guard.invocation("root").open()


def body(*names: str, fails: bool = False) -> Iterator[str]:
    with braintrust.start_span(name="body"):
        for name in names:
            with braintrust.start_span(name=name):
                pass
            yield name
        if fails:
            raise ValueError("the model is gone")


def told(backend: MemoryBackend) -> dict[str, Any]:
    """The root's metadata, and its spans."""
    rows = backend.rows()
    assert all("end" in row["metrics"] for row in rows)
    root = named(rows)["root"]
    metadata = dict(root["metadata"])
    return {"outcome": metadata.pop("trace_guard")["outcome"], **metadata, "spans": sorted(named(rows))}


RESULTS: dict[str, tuple[Callable[[], Any], Callable[[Any], Any]]] = {
    "generator": (lambda: body("a", "b"), lambda result: result),
    "tuple": (lambda: (body("a", "b"), 201, {"X-A": "1"}), lambda result: result[0]),
    "length": (lambda: (body("a", "b"), {"Content-Length": "2"}), lambda result: result[0]),
    "flask": (lambda: flask.Response(body("a", "b")), lambda result: result.response),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_that_streams(guard: Guard, backend: MemoryBackend, kind: str) -> None:
    """The end of a streamed result closes the invocation, before the last chunk if that completes the response."""
    make, items_of = RESULTS[kind]
    invocation = opened(guard)
    with flask.Flask("app").test_request_context("/"):
        result = guard_result(make(), invocation)
        items = items_of(result)
        assert isinstance(items, Iterator)
        seen = [(item, current_invocation() is invocation) for item in items]
    assert seen == [("a", True), ("b", kind != "length")]
    items.close()
    items.close()
    assert told(backend) == {"outcome": "ok", "spans": ["a", "b", "body", "root"]}
    assert type(result) is type(make()) or kind == "generator"


@pytest.mark.parametrize("result", ["text", {"n": 1}, ("text", 201), flask.Response("text"), None, ["a", "b"]])
def test_a_result_that_is_complete(guard: Guard, backend: MemoryBackend, result: Any) -> None:
    """A complete result closes the invocation at once and is returned unchanged."""
    assert guard_result(result, opened(guard)) is result
    assert told(backend)["outcome"] == "ok"


def test_a_request_for_the_head_only(guard: Guard, backend: MemoryBackend) -> None:
    """The response to HEAD is complete without its body, which is not run."""
    with flask.Flask("app").test_request_context("/", method="HEAD"):
        guard_result(flask.Response(body("a")), opened(guard))
    assert told(backend) == {"outcome": "ok", "spans": ["root"]}


def test_a_body_that_is_never_iterated(guard: Guard, backend: MemoryBackend) -> None:
    """A body that is closed before its first chunk closes the invocation."""
    guard_result(body("a"), opened(guard)).close()
    assert told(backend) == {"outcome": "ok", "client_disconnected": True, "spans": ["root"]}


def test_a_body_that_is_closed_for_an_error(guard: Guard, backend: MemoryBackend) -> None:
    """A body that the server closes because of its own exception ends with that exception."""
    items = guard_result(body("a", "b"), opened(guard))

    def send() -> None:
        try:
            next(items)
            raise TypeError("not bytes")
        finally:
            items.close()

    with pytest.raises(TypeError, match="not bytes"):
        send()
    assert told(backend)["outcome"] == "error"
    assert "TypeError: not bytes" in named(backend.rows())["root"]["error"]


def test_a_body_that_is_dropped(guard: Guard, backend: MemoryBackend) -> None:
    """A body that is never closed, because a hook has replaced the response, does not leave its trace open."""
    items = guard_result(body("a", "b"), opened(guard))
    next(items)
    del items
    gc.collect()
    until(lambda: backend.rows() and not still_open(backend.rows()))
    assert told(backend)["outcome"] == "ok"


def test_an_error_after_the_last_chunk(guard: Guard, backend: MemoryBackend) -> None:
    """The chunk that completes a response is sent even if the code after it fails. The exception follows it."""
    items = guard_result((body("a", fails=True), {"Content-Length": "1"}), opened(guard))[0]
    assert next(items) == "a"
    with pytest.raises(ValueError, match="the model is gone"):
        next(items)
    assert told(backend)["outcome"] == "error"


def test_a_body_longer_than_its_content_length(guard: Guard, backend: MemoryBackend) -> None:
    """A body that is longer than its Content-Length reaches the server completely, which decides what to do."""
    items = guard_result((body("a", "b", "c"), {"Content-Length": "1"}), opened(guard))[0]
    assert list(items) == ["a", "b", "c"]
    assert told(backend)["outcome"] == "ok"


async def async_body(*names: str, fails: bool = False) -> AsyncIterator[str]:
    with braintrust.start_span(name="body"):
        for name in names:
            with braintrust.start_span(name=name):
                await asyncio.sleep(0)
            yield name
        if fails:
            raise ValueError("the model is gone")


@pytest.mark.parametrize("length", [False, True])
@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_response_of_starlette(guard: Guard, backend: MemoryBackend, length: bool, elsewhere: bool) -> None:
    """The end of Starlette's body closes the invocation, wherever the function ran."""
    headers = {"Content-Length": "2"} if length else None

    async def run_it() -> list[tuple[str, bool]]:
        def make() -> tuple[Invocation, Any]:
            invocation = opened(guard)
            return invocation, guard_result(StreamingResponse(async_body("a", "b"), headers=headers), invocation)

        if elsewhere:
            invocation, response = await asyncio.to_thread(make)
        else:
            invocation = opened(guard)
            response = await guard_async_result(StreamingResponse(async_body("a", "b"), headers=headers), invocation)
        return [(chunk, invocation.is_live) async for chunk in response.body_iterator]

    assert asyncio.run(run_it()) == [("a", True), ("b", not length)]
    assert told(backend) == {"outcome": "ok", "spans": ["a", "b", "body", "root"]}
    assert parents(backend.rows()) == {"root": None, "body": "root", "a": "body", "b": "body"}


@pytest.mark.parametrize("end", ["fails", "cancelled", "closed", "complete"])
def test_how_a_body_in_an_event_loop_ends(guard: Guard, backend: MemoryBackend, end: str) -> None:
    """A failure is an error, a cancelled or closed body has lost its client, and a plain result is complete."""

    async def run_it() -> None:
        invocation = opened(guard)
        if end == "complete":
            assert await guard_async_result("text", invocation) == "text"
            return
        items = await guard_async_result(async_body("a", fails=end == "fails"), invocation)
        assert await anext(items) == "a"
        if end == "closed":
            await items.aclose()
        elif end == "fails":
            with pytest.raises(ValueError, match="the model is gone"):
                await anext(items)
        else:
            endless = await guard_async_result(waits(), opened_within(invocation))
            task = asyncio.ensure_future(anext(endless))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await items.aclose()

    async def waits() -> AsyncIterator[str]:
        await asyncio.sleep(60)
        yield "never"

    def opened_within(invocation: Invocation) -> Invocation:
        invocation.close()
        return opened(guard)

    asyncio.run(run_it())
    until(lambda: not still_open(backend.rows()))
    ends = {"fails": ("error", None), "cancelled": ("ok", True), "closed": ("ok", True), "complete": ("ok", None)}
    last = roots(backend.rows())[-1]["metadata"]
    assert (last["trace_guard"]["outcome"], last.get("client_disconnected")) == ends[end]


def test_an_exception_from_outside_does_not_hit_the_delivery(
    guard: Guard, backend: MemoryBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception that the framework raises in the request's thread during delivery does not change the response."""
    monkeypatch.setenv("THREADED_TIMEOUT_ENABLED", "true")
    delivering, goes_on = threading.Event(), threading.Event()
    send = backend.send

    def slow(*args: Any) -> None:
        delivering.set()
        assert goes_on.wait(20)
        send(*args)

    monkeypatch.setattr(backend, "send", slow)
    got: list[Any] = []

    def request() -> None:
        got.append(guard_result("answer", opened(guard)))

    thread = threading.Thread(target=request)
    thread.start()
    assert delivering.wait(20)
    inject = ctypes.pythonapi.PyThreadState_SetAsyncExc
    assert inject(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(RequestTimeoutException)) == 1
    goes_on.set()
    thread.join(20)
    assert got == ["answer"]
    assert told(backend)["outcome"] == "ok"


def test_a_server_that_counts_chunks(guard: Guard, backend: MemoryBackend) -> None:
    """A body that is a list stays a list, because servers take the response's length from its only chunk."""
    chunks = [b"hello"]

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return chunks

    assert GuardMiddleware(app)({"REQUEST_METHOD": "GET", "PATH_INFO": "/"}, lambda *_: None) is chunks
    assert [row["metadata"]["trace_guard"] for row in backend.rows()] == [{"outcome": "ok"}]
