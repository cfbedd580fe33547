"""Wrappers that the worker treats like the user's function.

The worker compares a function's signature and annotations with the bindings, checks whether it is a coroutine function,
and takes ``Context.function_directory`` from the file of its code:
https://github.com/Azure/azure-functions-python-worker/blob/dev/workers/azure_functions_worker/functions.py
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from trace_guard.contain import contain
from trace_guard.invocation.wrap import wrapper_of

from .context import CONTEXT, passed

__all__ = ["taking_context", "with_context", "worker_function"]


def worker_function(function: Any, run: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> Any:
    """A function that calls ``run`` with its arguments and has all attributes of ``function`` that the worker reads. In
    a traceback it appears as the line of the function's first decorator."""
    wrapper: Any = wrapper_of(function, run)
    with contain("keep a function's annotations"):
        # A copy, because durable functions write to it. In Python 3.14 there is no other way to set it.
        wrapper.__annotations__ = dict(function.__annotations__)
    code = getattr(function, "__code__", None)
    if code is not None:
        with contain("keep a function's place"):
            wrapper.__code__ = wrapper.__code__.replace(
                co_filename=code.co_filename, co_firstlineno=code.co_firstlineno
            )
    return wrapper


def with_context(function: Any) -> bool:
    """Make the worker pass the context to a function that does not declare it. Returns True if it will.

    A function with a parameter of that name is left unchanged. It is the context already, or a binding.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if CONTEXT in signature.parameters:
        return False
    own = inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, default=None)
    rest = [each for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
    before = [each for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD]
    # Without an annotation: the worker needs none, and typing.get_type_hints would resolve it in the user's module.
    function.__signature__ = signature.replace(parameters=[*before, own, *rest])
    return True


def taking_context(function: Any) -> Any:
    """A wrapper around a decorated function that takes the context from the worker and hides it from the decorators,
    which may check their keywords. Returns the function itself if it needs no wrapper."""
    if not inspect.isfunction(function) or CONTEXT in inspect.signature(function).parameters:
        return function

    def run(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        with passed(keywords.pop(CONTEXT, None)):
            return function(*args, **keywords)

    async def run_async(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        with passed(keywords.pop(CONTEXT, None)):
            return await function(*args, **keywords)

    outer = worker_function(function, run_async if inspect.iscoroutinefunction(function) else run)
    return outer if with_context(outer) else function
