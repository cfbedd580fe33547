"""Where the event and Lambda's context are found among a handler's arguments."""

from __future__ import annotations

import asyncio
import functools
import logging
import sys
import time
from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
from aws_lambda_powertools.utilities.data_classes import SQSEvent, event_source
from awslambdaric.lambda_context import LambdaContext
from pydantic import BaseModel

from trace_guard import Guard, SettingsError
from trace_guard.backends.memory import MemoryBackend
from trace_guard.rows import Row
from trace_guard_lambda import guard_handler

EVENT = {"n": 1}
REQUEST = {
    "version": "2.0", "routeKey": "$default", "rawPath": "/health/live", "rawQueryString": "", "headers": {},
    "requestContext": {"http": {"method": "GET", "path": "/health/live", "sourceIp": "127.0.0.1"}, "stage": "$default"},
    "isBase64Encoded": False,
}
QUEUE = {"Records": [{
    "messageId": "m", "eventSource": "aws:sqs", "eventSourceARN": "arn:aws:sqs:eu-west-1:1:orders", "body": "b",
    "receiptHandle": "r", "attributes": {}, "messageAttributes": {}, "md5OfBody": "", "awsRegion": "eu-west-1",
}]}


@pytest.fixture
def context() -> LambdaContext:
    deadline = int((time.time() + 30) * 1000)
    return LambdaContext("request-1", None, None, deadline, "arn:aws:lambda:eu-west-1:1:function:f")


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Any) -> Any:
    guard = Guard(backend=backend, dir=directory, project="p")
    yield guard
    guard.close()


def injects(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that passes a client before the event."""

    @functools.wraps(function)
    def call(event: Any, context: Any) -> Any:
        return function(mock.MagicMock(), event, context)

    return call


def by_name(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that passes the context by name, and a client after it."""

    @functools.wraps(function)
    def call(event: Any, context: Any) -> Any:
        return function(event, ctx=context, client=object())

    return call


def handlers(guard: Guard) -> dict[str, Callable[..., Any]]:
    guarded = guard_handler(guard=guard)

    class Service:
        @guarded
        def method(self, event: Any, context: Any) -> int:
            return 1

        @classmethod
        @guarded
        def of_class(cls, event: Any, context: Any) -> int:
            return 1

        @guarded
        @staticmethod
        def static(event: Any, context: Any) -> int:
            return 1

        @guarded
        @classmethod
        def below(cls, event: Any, context: Any) -> int:
            return 1

        @guarded
        @by_name
        def wrapped(self, event: Any, ctx: Any) -> int:
            return 1

        def __call__(self, event: Any, context: Any) -> int:
            return 1

    @injects
    @guarded
    def injected(client: Any, event: Any, context: Any) -> int:
        return 1

    @by_name
    @guarded
    def named(event: Any, *, ctx: Any, client: Any) -> int:
        return 1

    @guarded
    def between(event: Any, client: Any, context: Any) -> int:
        return 1

    def bound(client: Any, event: Any, context: Any) -> int:
        return 1

    return {
        "method": Service().method, "classmethod": Service.of_class, "staticmethod": Service.static,
        "classmethod below": Service.below, "object": guarded(Service()), "injected": injected, "by name": named,
        "partial": guarded(functools.partial(bound, object())),
        "between": lambda event, context: between(event, object(), context),
        "keywords": lambda event, context: guarded(bound)(context=context, client=1, event=event),
    }


NAMES = (
    "method", "classmethod", "staticmethod", "classmethod below", "object", "injected", "by name", "partial", "between",
    "keywords",
)


def root(backend: MemoryBackend) -> Row:
    (row,) = backend.rows()
    return row


@pytest.mark.parametrize("kind", NAMES)
def test_event_and_context_are_found(guard: Guard, backend: MemoryBackend, context: LambdaContext, kind: str) -> None:
    """Event, invocation id and deadline are found wherever they stand among the arguments."""
    assert handlers(guard)[kind](EVENT, context) == 1
    row = root(backend)
    assert (row["input"], row["metadata"]["faas.invocation_id"]) == (EVENT, "request-1")


@pytest.mark.parametrize("kind", ["method", "classmethod", "staticmethod", "object", "injected"])
def test_the_event_is_found_without_a_context(guard: Guard, backend: MemoryBackend, kind: str) -> None:
    """In a unit test without Lambda's context the event is found by the parameter's name."""
    assert handlers(guard)[kind](EVENT, None) == 1
    assert root(backend)["input"] == EVENT


def test_powertools_data_classes(guard: Guard, backend: MemoryBackend, context: LambdaContext) -> None:
    """An event in a data class of Powertools is described and logged like the event itself."""

    @event_source(data_class=SQSEvent)
    @guard_handler(guard=guard)
    def handler(event: SQSEvent, context: Any) -> int:
        return len(list(event.records))

    assert handler(QUEUE, context) == 1
    row = root(backend)
    assert row["span_attributes"]["name"] == "orders process"
    assert row["input"]["Records"][0]["body"] == "b"


def test_models(guard: Guard, backend: MemoryBackend, context: LambdaContext) -> None:
    """An event that a decorator has parsed into a pydantic model is described like the event itself."""

    class Envelope(BaseModel):
        Records: list[dict[str, Any]]

    @guard_handler(guard=guard)
    def handler(event: Envelope, context: Any) -> int:
        return 1

    assert handler(Envelope.model_validate(QUEUE), context) == 1
    assert root(backend)["span_attributes"]["name"] == "orders process"


def test_chalice(guard: Guard, backend: MemoryBackend, context: LambdaContext, monkeypatch: Any) -> None:
    """Below Chalice's decorators, which pass an event object or nothing, event and context are those of Lambda."""
    from chalice import Chalice  # type: ignore[import-untyped,unused-ignore]

    app = Chalice(app_name="shop")
    monkeypatch.setitem(globals(), "app", app)

    @app.on_sqs_message(queue="orders")  # type: ignore[untyped-decorator,unused-ignore]
    @guard_handler(guard=guard)
    def on_order(event: Any) -> None:
        assert [record.body for record in event] == ["b"]

    @app.route("/hello")  # type: ignore[untyped-decorator,unused-ignore]
    @guard_handler(guard=guard)
    def hello() -> dict[str, str]:
        return {"hello": "world"}

    on_order(QUEUE, context)
    answer = app({
        "resource": "/hello", "path": "/hello", "httpMethod": "GET", "headers": {}, "multiValueHeaders": {},
        "queryStringParameters": None, "multiValueQueryStringParameters": None, "pathParameters": None, "body": None,
        "requestContext": {"httpMethod": "GET", "resourcePath": "/hello"}, "stageVariables": None,
        "isBase64Encoded": False,
    }, context)
    assert answer["statusCode"] == 200
    first, second = backend.rows()
    assert [row["span_attributes"]["name"] for row in (first, second)] == ["orders process", "GET /hello"]
    assert {row["metadata"]["faas.invocation_id"] for row in (first, second)} == {"request-1"}


@pytest.fixture
def loop() -> Any:
    """The event loop of the main thread, which Mangum uses."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("loop")
def test_mangum(guard: Guard, backend: MemoryBackend, context: LambdaContext) -> None:
    """A guarded Mangum is a handler, and an endpoint below it finds the event in its request."""
    from fastapi import FastAPI, Request
    from mangum import Mangum

    async def live() -> int:
        return 1

    def ready(request):  # type: ignore[no-untyped-def]  # FastAPI reads the annotation, which must not be a text
        return 1

    ready.__annotations__["request"] = Request
    app = FastAPI()
    app.add_api_route("/health/live", live)
    app.add_api_route("/health/ready", guard_handler(guard=guard, name="endpoint")(ready))
    assert guard_handler(guard=guard)(Mangum(app, lifespan="off"))(REQUEST, context)["statusCode"] == 200
    http = {"method": "GET", "path": "/health/ready", "sourceIp": "127.0.0.1"}
    below = {**REQUEST, "rawPath": "/health/ready", "requestContext": {"http": http, "stage": "$default"}}
    assert Mangum(app, lifespan="off")(below, context)["statusCode"] == 200
    first, second = backend.rows()
    assert (first["input"]["rawPath"], second["input"]["rawPath"]) == ("/health/live", "/health/ready")
    assert {row["metadata"]["faas.invocation_id"] for row in (first, second)} == {"request-1"}


@pytest.mark.parametrize(
    ("handler", "message"),
    [
        (lambda: 1, "takes no event"),
        (lambda event: 1, "takes no context, so its traces have no invocation id and no time limit: declare it as"),
    ],
)
def test_a_handler_without_the_arguments_is_reported(
    guard: Guard, handler: Any, message: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that can't get event or context is reported at import, with the fix."""
    for framework in ("chalice", "mangum"):
        monkeypatch.delitem(sys.modules, framework, raising=False)
    with caplog.at_level(logging.WARNING, "trace_guard"):
        guard_handler(guard=guard)(handler)
    assert message in caplog.text


@pytest.mark.parametrize("wrong", [dict, "handler", 5])
def test_what_is_no_handler_is_refused(guard: Guard, wrong: Any) -> None:
    """A class or another object that can't be a handler is refused at import, with the fix."""
    with pytest.raises(TypeError, match="guard_handler"):
        guard_handler(guard=guard)(wrong)


@pytest.mark.parametrize("exclude", [lambda event: event["rawPath"] == "/health/live", "/health/live", ["/health/*"]])
def test_excluded_events(guard: Guard, backend: MemoryBackend, context: LambdaContext, exclude: Any) -> None:
    """An event that a function or a path excludes has no trace; an exception in the function excludes nothing."""

    @guard_handler(guard=guard, exclude=exclude)
    def handler(event: Any, context: Any) -> int:
        return 1

    assert handler(REQUEST, context) == 1
    assert backend.rows() == []
    assert handler({**REQUEST, "rawPath": "/orders"}, context) == 1
    assert len(backend.rows()) == 1


def test_a_fault_in_exclude_is_contained(
    guard: Guard, backend: MemoryBackend, context: LambdaContext, caplog: pytest.LogCaptureFixture
) -> None:
    """If the function given as exclude raises, the event is traced."""
    handler = guard_handler(guard=guard, exclude=lambda event: event["missing"])(lambda event, context: 1)
    with caplog.at_level(logging.CRITICAL):
        assert handler(EVENT, context) == 1
        caplog.clear()
    assert root(backend)["metadata"]["faas.coldstart"] in (True, False)


def test_a_wrong_exclude_shows_at_import(guard: Guard) -> None:
    """An exclude that is neither a function nor paths raises where the function is decorated."""
    with pytest.raises(SettingsError, match="exclude=5 is not accepted"):
        guard_handler(guard=guard, exclude=5)(lambda event, context: 1)  # type: ignore[call-overload]
