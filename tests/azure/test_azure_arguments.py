"""Where the trigger's value and the context are found, and invocations that are not traced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import azure.functions as func
import pytest

from trace_guard import Guard, SettingsError
from trace_guard.backends.memory import MemoryBackend
from trace_guard_azure import guard_app, guard_handler


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, tmp_path: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=tmp_path, project="shop")
    yield guard
    guard.close(timeout=1)


def request(path: str = "ask") -> func.HttpRequest:
    return func.HttpRequest("GET", f"https://shop.azurewebsites.net/api/{path}", body=b"")


CONTEXT = SimpleNamespace(
    invocation_id="id", function_name="ask", function_directory="/nowhere", trace_context=None, retry_context=None,
)


class Service:
    def ask(self, req: func.HttpRequest, ctx: Any = None) -> str:
        return "plain"


def injected(client: Any, req: func.HttpRequest, ctx: Any) -> str:
    return "plain"


@pytest.mark.parametrize("way", ["method", "injected", "by name"])
def test_value_and_context_are_found_by_kind(guard: Guard, backend: MemoryBackend, way: str) -> None:
    """A method or a function with injected arguments has the request and the id of its invocation."""
    guarded = guard_handler(guard=guard)
    if way == "method":
        assert guarded(Service.ask)(Service(), request(), CONTEXT) == "plain"
    elif way == "injected":
        assert guarded(injected)(object(), request(), CONTEXT) == "plain"
    else:
        assert guarded(injected)(client=object(), req=request(), ctx=CONTEXT) == "plain"
    (root,) = backend.rows()
    assert root["span_attributes"]["name"] == "GET ask"
    assert (root["input"]["path"], root["metadata"]["faas.invocation_id"]) == ("/api/ask", "id")


def test_work_that_never_runs_is_an_error(guard: Guard, backend: MemoryBackend) -> None:
    """A function without an HTTP trigger that returns a generator has done nothing, so its trace is an error."""
    app = func.FunctionApp()

    @app.queue_trigger(arg_name="message", queue_name="orders", connection="")
    @guard_handler(guard=guard)
    def work(message: func.QueueMessage) -> Any:
        return (n for n in range(3))

    (indexed,) = app.get_functions()
    indexed.get_user_function()(message=func.QueueMessage(id="m", body=b"b"), context=CONTEXT)
    (root,) = backend.rows()
    assert root["error"] == "the function returned a generator, which never runs"


@pytest.mark.parametrize("by_app", [True, False], ids=["app", "handler"])
@pytest.mark.parametrize("exclude", [lambda req: "healthz" in req.url, "/api/healthz", ["/api/health*"]])
def test_excluded_requests(guard: Guard, backend: MemoryBackend, exclude: Any, by_app: bool) -> None:
    """A request that a function or a path excludes has no trace."""
    app = func.FunctionApp()

    def ask(req: func.HttpRequest) -> str:
        return "plain"

    app.route(route="ask")(ask if by_app else guard_handler(guard=guard, exclude=exclude)(ask))
    if by_app:
        guard_app(app, guard=guard, exclude=exclude)
    (indexed,) = app.get_functions()
    for path in ("healthz", "ask"):
        assert indexed.get_user_function()(req=request(path), context=CONTEXT) == "plain"
    (root,) = backend.rows()
    assert root["input"]["path"] == "/api/ask"


def test_a_wrong_exclude_shows_at_import() -> None:
    """An exclude that is neither a function nor paths raises where the function is decorated."""
    with pytest.raises(SettingsError, match="exclude=5 is not accepted"):
        guard_handler(exclude=5)(Service.ask)  # type: ignore[call-overload]
