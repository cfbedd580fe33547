"""Functions of every kind, their results as the framework sends them, and calls that are not traced."""

from __future__ import annotations

import gc
import inspect
import logging
from typing import Any

import flask
import pytest
from cloudevents.http import CloudEvent
from gcf_client import root_of

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_gcf import GuardMiddleware, guard_handler

EVENT = {"ce-specversion": "1.0", "ce-id": "e1", "ce-type": "order.placed", "ce-source": "//shop"}
PLAIN = "@functions_framework.http\n@guard_handler\ndef main(request):\n    return "
ON_LOOP = "@functions_framework.aio.http\n@guard_handler\nasync def main(request):\n    return "
PRELUDE = "import dataclasses, datetime, decimal\nasync def later(): yield 1\nasync def work(): return 1\n"


class Context:
    """The context of an event of the first generation."""

    event_id, event_type, timestamp, resource = "77", "google.pubsub.topic.publish", "2026-01-01T00:00:00Z", "orders"


def test_events_are_found_wherever_they_stand(guard: Guard, backend: MemoryBackend) -> None:
    """An event is described although a method or a decorator passes other arguments before it."""

    class Service:
        @guard_handler
        def handle(self, event: Any) -> None:
            pass

        @guard_handler
        @classmethod
        def of_class(cls, event: Any) -> None:
            pass

        @guard_handler
        def background(self, data: Any, context: Any) -> None:
            pass

        @guard_handler
        def anything(self, value: Any) -> None:
            pass

    @guard_handler
    def injected(client: Any, event: Any) -> None:
        pass

    event = CloudEvent({"id": "e1", "source": "//shop", "type": "order.placed"}, {"n": 1})
    Service().handle(event)
    Service.of_class(event)
    injected(object(), event)
    Service().background({"n": 1}, Context())
    Service().anything({"n": 1})
    rows = backend.rows()
    assert [row["input"] for row in rows] == [{"n": 1}] * 5
    assert [row["span_attributes"]["name"] for row in rows][:3] == ["order.placed process"] * 3
    assert [row["metadata"].get("cloudevents.event_id") for row in rows] == ["e1", "e1", "e1", "77", None]


RESULTS = {
    "Decimal and date": (
        PLAIN, "{'price': decimal.Decimal('1.5'), 'at': datetime.date(2026, 1, 2)}",
        {"price": "1.5", "at": "Fri, 02 Jan 2026 00:00:00 GMT"},
    ),
    "dataclass within": (
        PLAIN, "[dataclasses.make_dataclass('Point', ['x'])(1)]", [{"x": 1}],
    ),
    "with a status": (PLAIN, "{'at': decimal.Decimal(1)}, 201", {"status_code": 201, "body": {"at": "1"}}),
    "async": (ON_LOOP, "{1: 'a'}", {"1": "a"}),
}


@pytest.mark.parametrize("case", RESULTS)
def test_results_are_captured_as_the_framework_sends_them(serve: Any, backend: MemoryBackend, case: str) -> None:
    """The output is the JSON that the client gets, as the framework's own encoder writes it."""
    define, result, expected = RESULTS[case]
    answer = serve(f"{PRELUDE}{define}{result}").get("/")
    row = root_of(backend)
    sent = answer.json() if callable(answer.json) else answer.json
    assert row["output"] == expected
    assert sent == (expected["body"] if isinstance(expected, dict) and "body" in expected else expected)
    assert row["metadata"]["trace_guard"] == {"outcome": "ok"}


REFUSED = {
    "set within": (PLAIN, "{'a': {1}}", "the result can't be encoded: TypeError"),
    "number": (PLAIN, "5", "the function returned int, which is no response"),
    "coroutine": (PLAIN, "work()", "the function returned coroutine, which is no response"),
    "asynchronous generator": (PLAIN, "later()", "the function returned async_generator, which is no response"),
    "async, generator": (ON_LOOP, "(n for n in 'ab')", "the function returned generator, which is no response"),
    "async, list": (ON_LOOP, "[1]", "the function returned list, which is no response"),
    "async, Decimal": (ON_LOOP, "{'a': decimal.Decimal(1)}", "the result can't be encoded: TypeError"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_result_that_the_framework_refuses_is_an_error(serve: Any, backend: MemoryBackend, case: str) -> None:
    """A result that the framework answers with a 500 makes the root an error, and the root ends with the call."""
    define, result, why = REFUSED[case]
    client = serve(f"{PRELUDE}{define}{result}")
    if hasattr(client, "application"):
        client.application.config["PROPAGATE_EXCEPTIONS"] = False
    assert client.get("/").status_code == 500
    for unawaited in filter(inspect.iscoroutine, gc.get_objects()):
        if unawaited.__name__ == "work":
            unawaited.close()  # else it warns when it is collected, in another test
    row = root_of(backend)
    assert row["error"].startswith(f"HTTP 500: {why}")
    assert row["metadata"]["http.response.status_code"] == 500


def test_an_event_function_that_is_a_generator_is_an_error(serve: Any, backend: MemoryBackend) -> None:
    """A generator for an event is accepted by the framework and never runs, so its root is an error."""
    client = serve("@functions_framework.cloud_event\n@guard_handler\ndef main(event):\n    yield 1")
    assert client.post("/", json={}, headers=EVENT).status_code == 200
    assert root_of(backend)["error"] == "the function returned a generator, which never runs"


@pytest.mark.parametrize("exclude", ["lambda request: request.path == '/healthz'", "'/healthz'", "('/health*',)"])
@pytest.mark.parametrize("kind", ["http", "aio"])
def test_excluded_requests(serve: Any, backend: MemoryBackend, exclude: str, kind: str) -> None:
    """A request that a function or a path excludes has no trace."""
    if kind == "aio":
        exclude = exclude.replace("request.path", "request.url.path")
    define = PLAIN if kind == "http" else ON_LOOP
    client = serve(define.replace("@guard_handler", f"@guard_handler(exclude={exclude})") + "'fine'")
    assert client.get("/healthz").status_code == 200
    assert backend.rows() == []
    assert client.get("/ask").status_code == 200
    assert root_of(backend)["output"] == "fine"


def test_excluded_events(guard: Guard, backend: MemoryBackend) -> None:
    """An event that a function excludes has no trace."""
    handler = guard_handler(exclude=lambda event: event["type"] == "ping")(lambda event: None)
    for kind in ("ping", "order.placed"):
        handler(CloudEvent({"id": "e1", "source": "//shop", "type": kind}, {}))
    assert root_of(backend)["span_attributes"]["name"] == "order.placed process"


def test_the_middleware_takes_a_function(
    guard: Guard, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """The middleware calls a function with the request; if it raises, the request is traced."""
    app = flask.Flask("app")
    app.add_url_rule("/<path:path>", view_func=lambda path: path, endpoint="any")
    app.wsgi_app = GuardMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, exclude=lambda request: {"probe": True, "user": False}[request.headers["x-from"]]
    )
    with caplog.at_level(logging.CRITICAL):
        for sender in ("probe", "user", "nobody"):
            assert app.test_client().get(f"/{sender}", headers={"x-from": sender}).status_code == 200
        caplog.clear()
    assert [row["input"]["path"] for row in backend.rows()] == ["/user", "/nobody"]
