"""The decorator for functions of the Functions Framework."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from trace_guard import FlushPolicy, Guard
from trace_guard.contain import contain, contained
from trace_guard.guard import Options
from trace_guard.http.exclude import Exclude, Excluded
from trace_guard.invocation.calls import takes_receiver
from trace_guard.invocation.invocation import NOTHING
from trace_guard.invocation.wrap import wrapper_of
from trace_guard.settings import Capture

from . import refusals
from .call import GuardedCall, Target
from .shutdown import prepare_for_shutdown
from .signatures import check, watch

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
    exclude: Exclude = (),
) -> Any:
    """Guard a function of the Functions Framework: each call is one trace, closed and delivered however it ends.

    Use it bare or with keywords, above or below the framework's decorator. It works on functions of any kind: http,
    cloud event, background event and typed, and those of ``functions_framework.aio``. The function keeps its signature
    and stays plain or async. Under the middleware a call joins the trace of its request.

    Args:
        guard: by default the process's own, see :func:`trace_guard.configure`.
        project, project_id: the Braintrust project; by default that of the settings, else the service's name.
        name: of the root span; by default ``POST`` and the function's name for a request, and the type and
            ``process`` for an event.
        capture_input, capture_output: whether the request or event and the result are logged. A function gets the
            value and returns what is logged in its place, see docs/capture.md. By default as configured in the
            settings.
        tags, metadata: logged on the root span.
        flush: when rows are delivered. By default the response waits for delivery, because the platform may give a
            service no CPU after its last byte. With ``after-response``, for instance-based billing only, it does not:
            https://cloud.google.com/run/docs/configuring/billing-settings
        exclude: calls that are not traced, such as health checks: a function that is called with the request or event
            and returns True for them, or paths of requests such as ``("/healthz", "/internal/*")``. If the function
            raises, the call is traced. The middleware has an ``exclude`` of its own.

    Raises:
        TypeError: the framework can't call the decorated object, or would never run it.
        SettingsError: a keyword's value is not accepted. A bad variable in the environment does not raise, as
            that would take the function down: it is reported, and the function runs unguarded.
    """
    options = Options(
        guard=guard, project=project, project_id=project_id, name=name, capture_input=capture_input,
        capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
    )
    excluded = Excluded(exclude)
    if handler is NOTHING:
        return functools.partial(_guarded, options=options, excluded=excluded)
    return _guarded(handler, options, excluded)


def _guarded(handler: Any, options: Options, excluded: Excluded) -> Any:
    if isinstance(handler, (staticmethod, classmethod)):
        return type(handler)(_guarded(handler.__func__, options, excluded))
    check(handler)
    chosen = options.make_guard()
    if chosen is None:
        return handler
    with contain("guard the function"):  # a fault of ours at import must not take the function down
        started = chosen.start()
        if not started.settings.disabled:
            started.pipeline.is_serving = True
        with contain("prepare for the end of the process"):
            prepare_for_shutdown()
        is_coroutine = inspect.iscoroutinefunction(handler)
        if is_coroutine:
            watch(handler)

        def call_of(args: tuple[Any, ...], keywords: dict[str, Any]) -> GuardedCall | None:
            refusals.reached()
            return contained("begin an invocation", lambda: GuardedCall.of(target, args, keywords), None)

        def run(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            call = call_of(args, keywords)
            return handler(*args, **keywords) if call is None else call.run(handler, args, keywords)

        async def run_async(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
            call = call_of(args, keywords)
            work = handler(*args, **keywords) if call is None else call.run_async(handler, args, keywords)
            return await work

        target = Target(
            handler.__name__, started, options, wrapper_of(handler, run_async if is_coroutine else run), excluded,
            takes_receiver(handler),
        )
        with contain("watch for requests that the framework refuses"):
            refusals.mark(target)
            refusals.watch_views()
        return target.wrapper
    return handler
