"""What a function is called with: the four kinds of the Functions Framework, and what it can't call.

https://github.com/GoogleCloudPlatform/functions-framework-python: a decorator of the framework keeps the kind of a
function in a registry, by the function's name; without one it is what ``FUNCTION_SIGNATURE_TYPE`` says. None of the
frameworks is imported here: who has been called by one has it imported.
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

__all__ = [
    "Kind", "ambient_request", "answers_itself", "check", "execution_id", "kind_of", "request_among", "watch",
]

_FRAMEWORK = "functions_framework"

_watched: set[str] = set()


class Kind(enum.Enum):
    """A kind of function, by the framework's own word for it; OTHER is what no kind of it is called with."""

    HTTP = "http"
    CLOUD_EVENT = "cloudevent"
    BACKGROUND_EVENT = "event"
    TYPED = "typed"
    OTHER = "other"


def kind_of(name: str, args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Kind:
    """The kind of a call. What it is called with says it, whatever is registered: a function below a decorator
    that loses its name is registered under another."""
    if request_among(args, keywords) is not None:
        return Kind.HTTP
    first, second = [*args, *keywords.values(), None, None][:2]
    if callable(getattr(first, "get_attributes", None)) and callable(getattr(first, "get_data", None)):
        return Kind.CLOUD_EVENT
    if hasattr(second, "event_id") and hasattr(second, "event_type"):
        return Kind.BACKGROUND_EVENT
    if _registered(name) == Kind.TYPED.value:
        return Kind.TYPED
    # A view of an app takes the parts of its route, or nothing, and finds the request in Flask's context.
    return Kind.OTHER if ambient_request() is None else Kind.HTTP


def request_among(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The request of Flask or Starlette, or what looks like one, among the arguments; None if there is none."""
    return next((one for one in (*args, *keywords.values()) if _is_request(one)), None)


def ambient_request() -> Any:
    """The request of Flask that this code runs in, or None: functions that take an event don't get it."""
    flask = sys.modules.get("flask")
    if flask is None or not flask.has_request_context():
        return None
    return flask.request._get_current_object()


def execution_id(name: str) -> str | None:
    """The id that the framework keeps for a call of this function on its event loop, where no request is at hand."""
    if name not in getattr(_registry(), "ASGI_FUNCTIONS", ()):
        return None  # in a thread of a server it may be left from a request before
    variable = getattr(sys.modules.get(f"{_FRAMEWORK}.execution_id"), "execution_context_var", None)
    found = getattr(variable.get(), "execution_id", None) if variable is not None else None
    return found if isinstance(found, str) else None


def check(handler: object) -> None:
    """
    Raises:
        TypeError: the framework can't call it, or calls it so that it never runs; the message says what would do.
    """
    if not callable(handler):
        raise TypeError(
            f"guard_handler is used bare or with keywords, such as guard_handler(project=...), and not with {handler!r}"
        )
    name = getattr(handler, "__name__", None)
    if inspect.isclass(handler) or not isinstance(name, str):
        raise TypeError(
            f"guard_handler is for functions, as the Functions Framework takes no other target, and {handler!r} is "
            "none: write a function that calls it"
        )
    inner = getattr(handler, "__wrapped__", None)
    if not inspect.iscoroutinefunction(handler) and inspect.iscoroutinefunction(inner) and _is_frameworks(handler):
        raise TypeError(_not_awaited(name))


def answers_itself(wrapper: Callable[..., Any]) -> bool:
    """True if the framework gets the very thing that a guarded function returns, with no other decorator between."""
    name = wrapper.__name__
    served = getattr(sys.modules.get(wrapper.__module__), name, None)
    if served is wrapper:
        return os.environ.get("FUNCTION_TARGET") == name
    return _is_frameworks(served) and getattr(served, "__wrapped__", None) is wrapper


def watch(handler: Callable[..., Any]) -> None:
    """Look at the registration of a coroutine function once it is complete: a decorator of the framework above
    comes after this one."""
    _listen()
    _watched.add(handler.__name__)


@functools.cache
def _listen() -> None:
    if hasattr(os, "register_at_fork"):
        # gunicorn forks its workers when the function's module is loaded, and before the first request.
        os.register_at_fork(before=_report)


def _report() -> None:
    with contain("look at how functions are registered"):
        on_loop = getattr(_registry(), "ASGI_FUNCTIONS", ())
        for name in [one for one in _watched if _registered(one) and one not in on_loop]:
            _watched.discard(name)
            logger.error("%s", _not_awaited(name))


def _not_awaited(name: str) -> str:
    return (
        f"{name} is a coroutine function below a decorator of functions_framework that does not await it, so that it "
        "never runs: use functions_framework.aio.http or functions_framework.aio.cloud_event"
    )


def _registered(name: str) -> str | None:
    found = getattr(_registry(), "REGISTRY_MAP", {}).get(name)
    return found if isinstance(found, str) else None


def _registry() -> Any:
    return sys.modules.get(f"{_FRAMEWORK}._function_registry")


def _is_frameworks(handler: object) -> bool:
    return getattr(handler, "__globals__", {}).get("__name__") in (_FRAMEWORK, f"{_FRAMEWORK}.aio")


def _is_request(value: Any) -> bool:
    # Of WSGI and of ASGI.
    has_origin = isinstance(getattr(value, "environ", None), dict) or isinstance(getattr(value, "scope", None), Mapping)
    return has_origin and hasattr(value, "method") and hasattr(value, "headers")
