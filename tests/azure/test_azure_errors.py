"""The decorators refuse unsuitable objects at import, with a message that says what to do."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import azure.functions as func
import pytest

from trace_guard import SettingsError
from trace_guard_azure import guard_app, guard_handler


def plain(req: func.HttpRequest) -> str:
    return "plain"


class Callable_:
    def __call__(self, req: func.HttpRequest) -> str:
        return "called"


def orchestrator(context: Any) -> Any:
    yield context


async def stream(req: func.HttpRequest) -> Any:
    yield "a"


WRONG = {
    "partial": (functools.partial(plain), "write a function with def"),
    "callable object": (Callable_(), "write a function with def"),
    "builtin": (len, "write a function with def"),
    "class": (Callable_, "which is not a function"),
    "static method": (staticmethod(plain), "put it below @staticmethod"),
    "generator": (orchestrator, "guard its activities"),
    "asynchronous generator": (stream, "return a StreamingResponse"),
    "app": (func.FunctionApp(), r"use guard_app\(FunctionApp\)"),
    "blueprint": (func.Blueprint(), r"use guard_app\(Blueprint\)"),
    "text": ("support-bot", r"guard_handler\(project=...\)"),
    "result of a call": (plain, r"bare or with keywords"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_unsuitable_objects_are_refused(kind: str) -> None:
    """An object that the worker refuses or that can't be traced raises, with a message that says what to do."""
    wrong, message = WRONG[kind]
    if kind == "result of a call":
        wrong = plain(func.HttpRequest("GET", "/", body=b""))  # type: ignore[assignment]
    for decorator in (guard_handler, guard_handler(project="shop")):
        with pytest.raises(TypeError, match=message):
            decorator(wrong)  # type: ignore[type-var]


@pytest.mark.parametrize(("kind", "message"), [
    ("orchestrationTrigger", "ask is a durable orchestrator.*guard its activities"),
    ("entityTrigger", "ask is a durable entity.*guard its activities"),
])
def test_replayed_functions_are_refused(kind: str, message: str) -> None:
    """Above the trigger of a durable orchestrator or entity, the decorator raises and says to guard the activities."""
    app = func.FunctionApp()

    def ask(context: Any) -> None: ...

    with pytest.raises(TypeError, match=message):
        guard_handler(app.generic_trigger(arg_name="context", type=kind)(ask))


def test_a_generator_within_a_builder_is_refused() -> None:
    """Above a decorator without a trigger, a generator is refused too."""
    with pytest.raises(TypeError, match="guard its activities"):
        guard_handler(func.FunctionApp().function_name("orchestrator")(orchestrator))


@pytest.mark.parametrize(("wrong", "message"), [
    (plain, "use guard_handler"),
    (func.FunctionApp().route(route="r")(plain), "use guard_handler"),
    (func.Blueprint(), "is registered: it guards"),
    (func.FunctionApp, "guard_app is for a FunctionApp, and not for"),
    (None, "guard_app is for a FunctionApp, and not for None"),
])
def test_objects_that_are_no_app_are_refused(wrong: Any, message: str) -> None:
    """guard_app raises for any object that is not an app, and says what to use instead."""
    with pytest.raises(TypeError, match=message):
        guard_app(wrong)


@pytest.mark.parametrize(("use", "error", "message"), [
    (lambda: guard_handler(flush="later")(plain), SettingsError, "flush='later' is not accepted"),
    (lambda: guard_app(func.FunctionApp(), flush="later"), SettingsError, "flush='later' is not accepted"),
    (lambda: guard_handler(nonsense=1), TypeError, "nonsense"),  # type: ignore[call-overload]
])
def test_a_bad_keyword_is_refused_at_import(use: Callable[[], Any], error: type[Exception], message: str) -> None:
    """An invalid keyword raises before any invocation, whatever the environment."""
    with pytest.raises(error, match=message):
        use()


def test_a_bad_variable_leaves_the_app_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An invalid variable is reported at the first invocation, and the function runs unguarded."""
    monkeypatch.setattr("trace_guard.guard._default", None)
    monkeypatch.setenv("TRACE_GUARD_RESERVE", "soon")
    guarded = guard_handler(plain)
    assert caplog.messages == []
    assert guarded(func.HttpRequest("GET", "/", body=b"")) == "plain"
    assert "TRACE_GUARD_RESERVE is 'soon'" in caplog.text


def route(app: Any, **keywords: Any) -> Any:
    return app.route(route="ask", **keywords)


async def coroutine(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse("a")


@pytest.mark.parametrize("function", [plain, coroutine])
@pytest.mark.parametrize("order", ["below", "above", "both", "app"])
def test_the_worker_finds_the_users_own_function(function: Callable[..., Any], order: str) -> None:
    """In each order of decorators, the worker reads name, kind, annotations, file and parameters of the user's
    function, and the context is added to the parameters."""
    app = func.FunctionApp()
    below = guard_handler(function) if order in ("below", "both") else function
    builder = route(app)(below)
    if order in ("above", "both"):
        assert guard_handler(builder) is builder
    if order == "app":
        guard_app(app)
    (indexed,) = app.get_functions()
    found = indexed.get_user_function()
    assert found is not function
    assert indexed.get_function_name() == function.__name__
    assert inspect.iscoroutinefunction(found) is inspect.iscoroutinefunction(function)
    assert inspect.getfile(found) == inspect.getfile(function)
    assert found.__code__.co_firstlineno == function.__code__.co_firstlineno
    assert found.__annotations__ == function.__annotations__
    assert list(inspect.signature(found).parameters) == ["req", "context"]
    assert list(inspect.signature(function).parameters) == ["req"]


def test_a_declared_context_is_the_functions_own() -> None:
    """A function with a parameter `context`, as the context or as a binding, gets it unchanged."""
    app = func.FunctionApp()

    @app.generic_trigger(arg_name="context", type="activityTrigger")
    @guard_handler
    def act(context: str) -> str:
        return context

    (indexed,) = app.get_functions()
    found = indexed.get_user_function()
    assert inspect.signature(found) == inspect.signature(act._function._func)
    assert found(context="in") == "in"


def test_a_strict_decorator_between_is_called_as_before() -> None:
    """A decorator with named parameters is called without the context, which a wrapper around it takes."""
    app = func.FunctionApp()

    def strict(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(req: func.HttpRequest) -> Any:
            return function(req)

        return wrapper

    def loose(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **keywords: Any) -> Any:
            return function(*args, **keywords)

        return wrapper

    def other(req: func.HttpRequest) -> str:
        return "other"

    route(app)(strict(guard_handler(plain)))
    app.route(route="other")(loose(guard_handler(other)))
    parameters = [list(inspect.signature(one.get_user_function()).parameters) for one in app.get_functions()]
    assert parameters == [["req", "context"], ["req", "context"]]


def test_a_guarded_app_does_not_guard_replayed_functions() -> None:
    """guard_app guards activities and functions that are registered later, but not orchestrators and entities."""
    app = func.FunctionApp()
    guard_app(app)
    blueprint = func.Blueprint()
    functions = {}
    for kind in ("orchestrationTrigger", "entityTrigger", "activityTrigger", "queueTrigger"):
        def one(value: Any) -> None: ...

        one.__name__ = kind
        functions[kind] = one
        blueprint.generic_trigger(arg_name="value", type=kind)(one)
    app.register_functions(blueprint)
    left = {
        found.get_function_name() for found in app.get_functions()
        if found.get_user_function() is functions[found.get_function_name()]
    }
    assert left == {"orchestrationTrigger", "entityTrigger"}
