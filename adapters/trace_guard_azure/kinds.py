"""Checks the objects that the decorators are applied to.

The worker accepts real functions only, because it reads file, signature and annotations. It refuses other objects when
the app is deployed. The checks here also refuse functions that the worker accepts but that can't be traced.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from trace_guard.invocation.misuse import check_decorated

__all__ = ["UNGUARDED", "check_app", "check_function", "check_trigger", "function_in", "is_builder"]

UNGUARDED = {"orchestrationTrigger": "orchestrator", "entityTrigger": "entity"}
"""Triggers whose functions are replayed from the start whenever they continue. Each function would have many traces.

https://learn.microsoft.com/azure/azure-functions/durable/durable-functions-code-constraints
"""


def is_builder(value: Any) -> bool:
    """True for the builder that the decorators of a FunctionApp or a Blueprint return."""
    return type(value).__name__ == "FunctionBuilder" and hasattr(value, "_function")


def is_app(value: Any) -> bool:
    """True for a FunctionApp of any kind, and for a Blueprint."""
    return hasattr(value, "_function_builders") and not isinstance(value, type)


def function_in(builder: Any) -> Callable[..., Any]:
    """The function in a builder.

    Raises:
        TypeError: this release of azure-functions keeps the function elsewhere.
    """
    function: Callable[..., Any] | None = getattr(builder._function, "_func", None)
    if not callable(function):
        raise TypeError(f"guard_handler can't find the function in {builder!r}: put it below the trigger's decorator")
    return function


def check_trigger(kind: str | None, name: str) -> None:
    """Check that functions with this trigger can be guarded.

    Raises:
        TypeError: the trigger replays its functions.
    """
    if kind in UNGUARDED:
        raise TypeError(
            f"{name} is a durable {UNGUARDED[kind]}, which is replayed each time it continues and can't be traced: "
            "remove guard_handler from it and guard its activities"
        )


def check_function(handler: object) -> None:
    """Check that the worker can call a function and that it can be traced.

    Raises:
        TypeError: it can't; the message says what to do.
    """
    if is_app(handler):
        raise TypeError(f"guard_handler is for functions: use guard_app({type(handler).__name__}) for all of an app's")
    check_decorated(handler, "guard_handler")
    if isinstance(handler, functools.partial) or not _is_function(handler):
        raise TypeError(
            f"guard_handler can't guard {handler!r}: the worker accepts real functions only, so write a function with "
            "def or async def that calls it"
        )
    name = getattr(handler, "__name__", "")
    if inspect.isgeneratorfunction(handler):
        raise TypeError(
            f"{name} is a generator: if it is a durable orchestrator, remove guard_handler from it and guard its "
            "activities; the worker runs no other generators, so return a response, or a StreamingResponse around it"
        )
    if inspect.isasyncgenfunction(handler):
        raise TypeError(
            f"{name} is an asynchronous generator, which the worker does not run: return a StreamingResponse around it"
        )


def check_app(app: object) -> None:
    """Check that the object is a FunctionApp.

    Raises:
        TypeError: it is not.
    """
    if is_builder(app) or _is_function(app):
        raise TypeError("guard_app is for a FunctionApp, not for one of its functions: use guard_handler for that")
    if not is_app(app):
        raise TypeError(f"guard_app is for a FunctionApp, and not for {app!r}")
    if not callable(getattr(app, "get_functions", None)):
        raise TypeError(
            f"guard_app is for the FunctionApp in which a {type(app).__name__} is registered: it guards the blueprints "
            "that are registered there before or after"
        )


def _is_function(value: object) -> bool:
    return inspect.isfunction(value) or inspect.ismethod(value)
