"""Functions that the worker treats as the user's own.

The worker reads the signature and annotations of a function to compare them with the bindings, whether it is a
coroutine function, and the file of its code, whose directory becomes ``Context.function_directory``:
https://github.com/Azure/azure-functions-python-worker/blob/dev/workers/azure_functions_worker/functions.py
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from trace_guard.contain import contain
from trace_guard.invocation.wrap import like

from .context import CONTEXT, passed

__all__ = ["taking_context", "with_context", "worker_function"]

def worker_function(function: Any, run: Callable[[tuple[Any, ...], dict[str, Any]], Any]) -> Any:
    """A function like ``function`` that calls ``run`` with its arguments and has all that the worker reads of it. In a
    traceback it appears as the line of the function's first decorator."""
    wrapper: Any = like(function, run)
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
    """Have the worker pass the context to a function that does not declare it; True if it will.

    A function that has a parameter of that name is left unchanged: it is the context already, or a binding.
    """
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    if CONTEXT in signature.parameters:
        return False
    own = inspect.Parameter(CONTEXT, inspect.Parameter.KEYWORD_ONLY, default=None)
    rest = [one for one in parameters if one.kind is inspect.Parameter.VAR_KEYWORD]
    before = [one for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
    # No annotation: the worker asks for none, and typing.get_type_hints would look for it in the user's module.
    function.__signature__ = signature.replace(parameters=[*before, own, *rest])
    return True


def taking_context(function: Any) -> Any:
    """A function around one that other decorators have wrapped. It takes the context from the worker and hides it from
    the decorators, which may check their keywords. Returns the function itself if it needs no wrapper."""
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
