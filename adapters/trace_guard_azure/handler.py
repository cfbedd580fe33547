"""The decorator for functions of Azure Functions."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from trace_guard import FlushPolicy, Guard
from trace_guard.contain import contain, contained
from trace_guard.guard import Options
from trace_guard.http.exclude import Exclude
from trace_guard.invocation.invocation import NOTHING
from trace_guard.settings import Capture

from .app import listen
from .declaration import declared_by
from .guarded import GuardedFunction
from .kinds import check_function, check_trigger, function_in, is_builder
from .options import AzureOptions, Extract
from .shutdown import prepare_for_shutdown

__all__ = ["guard_handler"]

F = TypeVar("F", bound=Callable[..., Any])


@overload
def guard_handler(handler: F) -> F: ...


@overload
def guard_handler(
    *,
    guard: Guard | None = ...,
    project: str | None = ...,
    project_id: str | None = ...,
    name: str | None = ...,
    capture_input: Capture | None = ...,
    capture_output: Capture | None = ...,
    tags: Sequence[str] | None = ...,
    metadata: Mapping[str, Any] | None = ...,
    flush: FlushPolicy | str | None = ...,
    extract: Extract | None = ...,
    exclude: Exclude = ...,
) -> Callable[[F], F]: ...


def guard_handler(
    handler: Any = NOTHING,
    *,
    guard: Guard | None = None,
    project: str | None = None,
    project_id: str | None = None,
    name: str | None = None,
    capture_input: Capture | None = None,
    capture_output: Capture | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    flush: FlushPolicy | str | None = None,
    extract: Extract | None = None,
    exclude: Exclude = (),
) -> Any:
    """Guard a function of Azure Functions: each invocation is one trace, closed and delivered however it ends.

    Use it bare or with keywords, above or below the decorators of triggers and bindings. It works on functions of any
    trigger, plain or async, of an app or a blueprint, and on ``main`` of the first programming model. The function
    keeps its signature and stays plain or async. It need not declare ``context`` for the invocation's id.

    Args:
        guard: by default the process's own, see :func:`trace_guard.configure`.
        project, project_id: the Braintrust project; by default that of the settings, else the app's name.
        name: of the root span; by default the function's name, with the method before it for a request.
        capture_input, capture_output: whether the trigger's value and the result are logged. A function gets the
            value and returns what is logged in its place, see docs/capture.md. By default as configured in the
            settings.
        tags, metadata: logged on the root span.
        flush: when rows are delivered. By default the function's result waits for delivery. With ``after-response`` it
            does not wait. The worker keeps running, but rows are lost if the host removes it before they are delivered.
        extract: called with the trigger's value and the context, for triggers that carry their parent in a place of
            their own. Returns an exported span, or headers with ``traceparent`` and ``baggage``; None for no parent.
        exclude: invocations that are not traced, such as health checks: a function that is called with the trigger's
            value and returns True for them, or paths of requests such as ``("/api/healthz", "/api/internal/*")``. If
            the function raises, the invocation is traced.

    Raises:
        TypeError: the worker can't call the decorated object, or it would have no trace; the message says what to do.
        SettingsError: a keyword's value is not accepted. A bad variable in the environment does not raise, as that
            would take the app down: it is reported at the first invocation, and functions run unguarded.
    """
    options = Options(
        guard=guard, project=project, project_id=project_id, name=name, capture_input=capture_input,
        capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
    )
    if handler is NOTHING:
        return functools.partial(_guarded, options=options, extract=extract, exclude=exclude)
    return _guarded(handler, options, extract, exclude)


def _guarded(handler: Any, options: Options, extract: Extract | None, exclude: Exclude) -> Any:
    function = function_in(handler) if is_builder(handler) else handler
    if is_builder(handler):
        declared = contained("read the declaration", lambda: declared_by(handler._function), None)
        if declared is not None:
            check_trigger(declared.kind, declared.name or str(getattr(function, "__name__", "the function")))
    check_function(function)
    chosen = AzureOptions(options, extract, exclude)
    with contain("guard the function"):  # a fault of ours at import must not take the app down
        wrapper = GuardedFunction(function, chosen).wrapper
        with contain("prepare for the end of the worker"):
            prepare_for_shutdown()
        with contain("listen for declarations"):
            listen()
        if not is_builder(handler):
            return wrapper
        handler._function._func = wrapper
    return handler
