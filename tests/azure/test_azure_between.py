"""Decorators between the guard and the trigger, and functions that are registered several times."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_azure import guard_app, guard_handler

REQUEST = func.HttpRequest("GET", "https://shop.azurewebsites.net/api/ask", body=b"")


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, tmp_path: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=tmp_path, project="shop")
    yield guard
    guard.close(timeout=1)


def binding(function: Callable[..., Any]) -> Callable[..., Any]:
    """Checks its arguments against the signature, as validating decorators do."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        return function(**signature.bind(*args, **keywords).arguments)

    return wrapper


def async_binding(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function)

    @functools.wraps(function)
    async def wrapper(*args: Any, **keywords: Any) -> Any:
        return await function(**signature.bind(*args, **keywords).arguments)

    return wrapper


def naming(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(req: func.HttpRequest) -> Any:
        return function(req)

    return wrapper


def ask(req: func.HttpRequest) -> str:
    if req.params.get("bad"):
        raise LookupError("bad")
    return "plain"


async def ask_async(req: func.HttpRequest) -> str:
    return ask(req)


def called(indexed: Any, name: str, request: func.HttpRequest = REQUEST) -> Any:
    """Call the function as the worker does: with the context if its signature has it."""
    function = indexed.get_user_function()
    context = SimpleNamespace(
        invocation_id=f"id of {name}", function_name=name, function_directory="/nowhere", trace_context=None,
        retry_context=SimpleNamespace(retry_count=1, max_retry_count=3),
    )
    keywords = {"context": context} if "context" in inspect.signature(function).parameters else {}
    result = function(req=request, **keywords)
    return asyncio.run(result) if inspect.iscoroutine(result) else result


@pytest.mark.parametrize("by_app", [False, True], ids=["handler", "app"])
@pytest.mark.parametrize(("between", "function"), [(binding, ask), (naming, ask), (async_binding, ask_async)])
def test_a_decorator_between_never_sees_the_context(
    guard: Guard, backend: MemoryBackend, between: Any, function: Any, by_app: bool
) -> None:
    """A decorator that checks or names its parameters is called as without the guard, and the trace still has the
    worker's metadata of the invocation."""
    app = func.FunctionApp()
    app.route(route="ask")(between(function) if by_app else between(guard_handler(guard=guard)(function)))
    if by_app:
        guard_app(app, guard=guard)
    (indexed,) = app.get_functions()
    found = indexed.get_user_function()
    assert inspect.getfile(found) == __file__
    assert inspect.iscoroutinefunction(found) is inspect.iscoroutinefunction(function)
    assert called(indexed, function.__name__) == "plain"
    (root,) = backend.rows()
    assert root["metadata"]["faas.invocation_id"] == f"id of {function.__name__}"
    assert root["metadata"]["azure.functions.retry.count"] == 1


def test_an_exception_passes_through(guard: Guard, backend: MemoryBackend) -> None:
    """An exception of the function leaves the decorators around it, and the next call is not affected."""
    app = func.FunctionApp()
    app.route(route="ask")(binding(guard_handler(guard=guard)(ask)))
    (indexed,) = app.get_functions()
    bad = func.HttpRequest("GET", "https://shop/api/ask", params={"bad": "1"}, body=b"")
    with pytest.raises(LookupError, match=r"^bad$"):
        called(indexed, "ask", bad)
    guard_handler(guard=guard)(ask)(req=REQUEST)
    first, second = backend.rows()
    assert "LookupError: bad" in first["error"]
    assert "faas.invocation_id" not in second["metadata"]


def test_one_function_under_two_names(guard: Guard, backend: MemoryBackend) -> None:
    """Each registration of a function is described by its own declaration."""
    app = func.FunctionApp()
    guarded = guard_handler(guard=guard)(ask)
    app.function_name("one")(app.route(route="orders/{id}")(guarded))
    app.function_name("two")(app.queue_trigger(arg_name="req", queue_name="orders", connection="Storage")(guarded))
    one, two = app.get_functions()
    called(one, "one")
    called(two, "two")
    facts = [row["metadata"] for row in backend.rows()]
    assert [each["faas.trigger"] for each in facts] == ["http", "pubsub"]
    assert [each.get("http.route") for each in facts] == ["/api/orders/{id}", None]
    assert facts[1]["messaging.destination.name"] == "orders"
