"""The kinds of functions of the Functions Framework, their arguments, and checks of decorated objects.

https://github.com/GoogleCloudPlatform/functions-framework-python: the framework's decorators put the kind of a function
into a registry, by the function's name. Without a decorator, ``FUNCTION_SIGNATURE_TYPE`` names the kind. No framework
is imported here: a function that a framework calls has imported it already.
"""

from __future__ import annotations

import enum
import functools
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from trace_guard.contain import contain, logger
from trace_guard.invocation.misuse import check_decorated

__all__ = [
    "Kind", "ambient_request", "answers_itself", "background_event_among", "check", "cloud_event_among", "execution_id",
    "kind_of", "request_among", "watch",
]

_FRAMEWORK = "functions_framework"

_watched: set[str] = set()


class Kind(enum.Enum):
    """A kind of function, with the framework's name for it. OTHER is for calls that fit no kind."""

    HTTP = "http"
    CLOUD_EVENT = "cloudevent"
    BACKGROUND_EVENT = "event"
    TYPED = "typed"
    OTHER = "other"


def kind_of(name: str, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Kind:
    """The kind of a call. Its arguments decide before the registry, because a decorator that does not keep the
    function's name registers it under another name."""
    if request_among(args, keywords) is not None:
        return Kind.HTTP
    if cloud_event_among(args, keywords) is not None:
        return Kind.CLOUD_EVENT
    if background_event_among(args, keywords) is not None:
        return Kind.BACKGROUND_EVENT
    if _registered(name) == Kind.TYPED.value:
        return Kind.TYPED
    # A Flask view takes the route's parameters only, and its request is in Flask's context.
    return Kind.OTHER if ambient_request() is None else Kind.HTTP


def request_among(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The request of Flask or Starlette, or a similar object, among the arguments; None without a request."""
    return next((value for value in (*args, *keywords.values()) if _is_request(value)), None)


def cloud_event_among(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The CloudEvent among the arguments, wherever it stands; None without one."""
    return next((
        value for value in (*args, *keywords.values())
        if callable(getattr(value, "get_attributes", None)) and callable(getattr(value, "get_data", None))
    ), None)


def background_event_among(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """The data and the context of an event of the first generation: the context, and the argument before it. None
    without one."""
    values = [*args, *keywords.values()]
    for index, value in enumerate(values[1:]):
        if hasattr(value, "event_id") and hasattr(value, "event_type"):
            return values[index], value
    return None


def ambient_request() -> Any:
    """The current request of Flask, or None. Functions that take an event don't get it as an argument."""
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return None
    return flask.request._get_current_object()


def execution_id(name: str) -> str | None:
    """The framework's execution id for a call of this function on its event loop, which gets no request."""
    if name not in getattr(_registry(), "ASGI_FUNCTIONS", ()):
        return None  # a server's thread may still have the id of an earlier request
    variable = getattr(sys.modules.get(f"{_FRAMEWORK}.execution_id"), "execution_context_var", None)
    identifier = getattr(variable.get(), "execution_id", None) if variable is not None else None
    return identifier if isinstance(identifier, str) else None


def check(handler: object) -> None:
    """Check that the framework can call and run a function.

    Raises:
        TypeError: it can't; the message says what to do.
    """
    if not inspect.isclass(handler):
        check_decorated(handler, "guard_handler")
    name = getattr(handler, "__name__", None)
    if inspect.isclass(handler) or not isinstance(name, str):
        raise TypeError(
            f"guard_handler can't guard {handler!r}: the Functions Framework accepts functions only, so write a "
            "function that calls it"
        )
    inner = getattr(handler, "__wrapped__", None)
    if not inspect.iscoroutinefunction(handler) and inspect.iscoroutinefunction(inner) and _is_frameworks(handler):
        raise TypeError(_not_awaited(name))


def answers_itself(wrapper: Callable[..., Any]) -> bool:
    """True if the framework gets a guarded function's result unchanged, with no other decorator between."""
    name = wrapper.__name__
    served = getattr(sys.modules.get(wrapper.__module__), name, None)
    if served is wrapper:
        return os.environ.get("FUNCTION_TARGET") == name
    return _is_frameworks(served) and getattr(served, "__wrapped__", None) is wrapper


def watch(handler: Callable[..., Any]) -> None:
    """Check the registration of a coroutine function later, as the framework's decorator above has not run yet."""
    _listen()
    _watched.add(handler.__name__)


@functools.cache
def _listen() -> None:
    if hasattr(os, "register_at_fork"):
        # gunicorn forks its workers after it has loaded the function's module, and before the first request.
        os.register_at_fork(before=_report)


def _report() -> None:
    with contain("check how functions are registered"):
        on_loop = getattr(_registry(), "ASGI_FUNCTIONS", ())
        for name in [each for each in _watched if _registered(each) and each not in on_loop]:
            _watched.discard(name)
            logger.error("%s", _not_awaited(name))


def _not_awaited(name: str) -> str:
    return (
        f"{name} is a coroutine function below a decorator of functions_framework that does not await it, so it "
        "never runs: use functions_framework.aio.http or functions_framework.aio.cloud_event"
    )


def _registered(name: str) -> str | None:
    kind = getattr(_registry(), "REGISTRY_MAP", {}).get(name)
    return kind if isinstance(kind, str) else None


def _registry() -> Any:
    return sys.modules.get(f"{_FRAMEWORK}._function_registry")


def _is_frameworks(handler: object) -> bool:
    return getattr(handler, "__globals__", {}).get("__name__") in (_FRAMEWORK, f"{_FRAMEWORK}.aio")


def _is_request(value: Any) -> bool:
    # WSGI requests have an environ, ASGI requests a scope.
    has_origin = isinstance(getattr(value, "environ", None), dict) or isinstance(getattr(value, "scope", None), Mapping)
    # Starlette makes the headers when they are read, and raises if the scope has none.
    return has_origin and hasattr(value, "method") and (hasattr(type(value), "headers") or hasattr(value, "headers"))
