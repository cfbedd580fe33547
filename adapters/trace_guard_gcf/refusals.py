"""Traces requests that the Functions Framework fails with before it calls a guarded function.

The framework makes an event, or the argument of a typed function, from the request. It answers a malformed one with a
400 or 500 itself. The function's own guard never sees such a request, so the framework's view is watched too.

https://github.com/GoogleCloudPlatform/functions-framework-python: ``_typed_event_func_wrapper`` and the functions
beside it, which return the view for a function.
"""

from __future__ import annotations

import contextvars
import functools
import inspect
import sys
import time
from collections.abc import Callable
from typing import Any

from trace_guard.contain import contain, contained
from trace_guard.http.answers import status_of_error

from .call import GuardedCall, Target
from .signatures import ambient_request, request_among

__all__ = ["mark", "reached", "watch_views"]

# The functions that make views of functions, by their modules.
_MAKERS = {
    "functions_framework": (
        "_typed_event_func_wrapper", "_cloud_event_view_func_wrapper", "_event_view_func_wrapper",
    ),
    "functions_framework.aio": ("_cloudevent_func_wrapper",),
}
_WATCHED = "__trace_guard_watched__"
# Decorators that keep the function's attributes keep this one too, so it is found below them.
_TARGET = "__trace_guard_target__"

_view: contextvars.ContextVar[_View | None] = contextvars.ContextVar("trace_guard_view", default=None)


class _View:
    """A run of a view. Copies of the context share it with the thread that runs the function.

    Attributes:
        has_called: True once the guarded function was called.
    """

    def __init__(self) -> None:
        self.has_called = False
        self.began = time.time()


def mark(target: Target) -> None:
    """Let the views of a guarded function be found."""
    setattr(target.wrapper, _TARGET, target)


def reached() -> None:
    """Record that the guarded function was called. Its own call is its trace."""
    view = _view.get()
    if view is not None:
        view.has_called = True


def watch_views() -> None:
    """Watch the views that the framework makes from now on. Call it when a function is decorated: the framework makes
    them after it has loaded the function's module."""
    for module_name, names in _MAKERS.items():
        module = sys.modules.get(module_name)
        for name in names:
            make = getattr(module, name, None)
            if callable(make) and not hasattr(make, _WATCHED):
                setattr(module, name, _watching(make))


def _watching(make: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(make)
    def make_watched(function: Any, *args: Any, **keywords: Any) -> Any:
        view = make(function, *args, **keywords)
        target = getattr(function, _TARGET, None)
        if target is None:
            return view
        return (_async_view if inspect.iscoroutinefunction(view) else _plain_view)(view, target)

    setattr(make_watched, _WATCHED, True)
    return make_watched


def _plain_view(view: Callable[..., Any], target: Target) -> Callable[..., Any]:
    @functools.wraps(view)
    def watched(*args: Any, **keywords: Any) -> Any:
        run = _View()
        token = _view.set(run)
        try:
            return view(*args, **keywords)
        except Exception as error:
            call = None if run.has_called else _call(target, ambient_request(), run, error)
            if call is not None:
                with contain("trace a refused request"):
                    call.refuse(error)
            raise
        finally:
            _view.reset(token)

    return watched


def _async_view(view: Callable[..., Any], target: Target) -> Callable[..., Any]:
    @functools.wraps(view)
    async def watched(*args: Any, **keywords: Any) -> Any:
        run = _View()
        token = _view.set(run)
        try:
            return await view(*args, **keywords)
        except Exception as error:
            call = None if run.has_called else _call(target, request_among(args, keywords), run, error)
            if call is not None:
                with contain("trace a refused request"):
                    await call.refuse_async(error)
            raise
        finally:
            _view.reset(token)

    return watched


def _call(target: Target, request: Any, view: _View, error: Exception) -> GuardedCall | None:
    """The open call of a request that the framework refuses; None if it is not traced."""
    if request is None:
        return None
    call = contained("begin an invocation", lambda: GuardedCall.of_refused(target, request), None)
    if call is not None:
        with contain("describe a refused request"):
            call.invocation.span.log(metrics={"start": view.began})
            call.invocation.note({"http.response.status_code": status_of_error(error) or 500})
    return call
