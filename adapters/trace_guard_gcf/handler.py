"""The decorator for functions of the Functions Framework."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from trace_guard import FlushPolicy, Guard
from trace_guard.adapters import guard_for
from trace_guard.contain import contain, contained

from .call import Call, Options
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
    capture_input: bool | None = ...,
    capture_output: bool | None = ...,
    tags: Sequence[str] | None = ...,
    metadata: Mapping[str, Any] | None = ...,
    flush: FlushPolicy | str | None = ...,
) -> Callable[[F], F]: ...


def guard_handler(
    handler: Callable[..., Any] | None = None,
    *,
    guard: Guard | None = None,
    project: str | None = None,
    project_id: str | None = None,
    name: str | None = None,
    capture_input: bool | None = None,
    capture_output: bool | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    flush: FlushPolicy | str | None = None,
) -> Any:
    """Guard a function of the Functions Framework: each call is one trace, closed and delivered however it ends.

    Use it bare or with keywords, above or below the framework's decorator, on functions of any kind: http, cloud
    event, background event and typed, and those of ``functions_framework.aio``. The function keeps its signature,
    and stays plain or async. Under the middleware a call adds to the trace of its request.

    Args:
        guard: by default the process's own, see :func:`trace_guard.configure`.
        project, project_id: the Braintrust project; by default that of the settings, else the service's name.
        name: of the root span; by default ``POST`` and the function's name for a request, and the type and
            ``process`` for an event.
        capture_input, capture_output: whether request or event, and result, are logged; by default as the settings
            say. A body is logged if it is text with a known length up to ``max_payload_bytes``.
        tags, metadata: logged on the root span.
        flush: when rows are delivered. By default the response waits for it, as the platform may give a service no
            CPU after its last byte. With ``after-response`` it does not; this is for instance-based billing only:
            https://cloud.google.com/run/docs/configuring/billing-settings

    Raises:
        TypeError: the framework can't call what it is used on, or would never run it.
        SettingsError: a keyword's value is not accepted. A bad variable in the environment does not raise, as
            that would take the function down: it is reported, and the function runs unguarded.
    """
    if handler is None:
        return functools.partial(
            guard_handler, guard=guard, project=project, project_id=project_id, name=name,
            capture_input=capture_input, capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
        )
    check(handler)
    chosen = guard_for(
        guard, project=project, project_id=project_id, capture_input=capture_input,
        capture_output=capture_output, flush=flush,
    )
    if chosen is None or chosen.settings.disabled:
        return handler
    with contain("guard the function"):  # a fault of ours at import must not take the function down
        options = Options(chosen.start(), handler.__name__, name, tags, metadata)
        with contain("prepare for the end of the process"):
            prepare_for_shutdown()
        if inspect.iscoroutinefunction(handler):
            watch(handler)
            return _coroutine(handler, options)
        return _plain(handler, options)
    return handler


def _plain(function: Callable[..., Any], options: Options) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        call = contained("begin an invocation", lambda: Call.of(options, args, keywords), None)
        if call is None:
            return function(*args, **keywords)
        try:
            call.read_input()
            result = function(*args, **keywords)
            call.take_note_of(result, wrapper)
        except BaseException as error:
            call.fail(error)
            raise
        return call.end(result)

    return wrapper


def _coroutine(function: Callable[..., Awaitable[Any]], options: Options) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **keywords: Any) -> Any:
        call = contained("begin an invocation", lambda: Call.of(options, args, keywords), None)
        if call is None:
            return await function(*args, **keywords)
        try:
            await call.read_input_async()
            result = await function(*args, **keywords)
            call.take_note_of(result, wrapper)
        except BaseException as error:
            await call.fail_async(error)
            raise
        return await call.end_async(result)

    return wrapper
