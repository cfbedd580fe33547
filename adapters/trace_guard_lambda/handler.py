"""The decorator for Lambda handlers."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar, overload

from trace_guard import FlushPolicy, Guard, Invocation
from trace_guard.adapters import guard_for
from trace_guard.contain import contain, contained
from trace_guard.wrap import guarded

from .context import ColdStart, deadline_of, facts_of, name_of

__all__ = ["guard_handler"]

F = TypeVar("F", bound=Callable[..., Any])

_cold_start = ColdStart()


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
    """Guard a Lambda handler: each invocation is one trace, closed and delivered however it ends.

    Use it bare or with keywords. An ``async def`` handler becomes a plain one, which Lambda can call; it runs
    on one event loop that is kept from invocation to invocation.

    Args:
        guard: by default the process's own, see :func:`trace_guard.configure`.
        project, project_id: the Braintrust project; by default that of the settings, else the function's name.
        name: of the root span; by default the function's name.
        capture_input, capture_output: whether event and result are logged; by default as the settings say.
        tags, metadata: logged on the root span.
        flush: when rows are delivered. On Lambda that is before the response: what is sent after it is
            frozen with the process, so that ``after-response`` is taken for ``before-response``.

    Raises:
        SettingsError: a keyword's value is not accepted. A bad variable in the environment does not raise, as
            that would take the function down: it is reported, and the function runs unguarded.
    """
    if handler is None:
        return functools.partial(
            guard_handler, guard=guard, project=project, project_id=project_id, name=name,
            capture_input=capture_input, capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
        )
    plain = _plain(handler) if inspect.iscoroutinefunction(handler) else handler
    chosen = guard_for(
        guard, project=project, project_id=project_id, capture_input=capture_input,
        capture_output=capture_output, flush=flush,
    )
    if chosen is None or chosen.settings.disabled:
        return plain

    def begin(args: tuple[Any, ...], keywords: dict[str, Any]) -> Invocation:
        event = args[0] if args else keywords.get("event")
        context = args[1] if len(args) > 1 else keywords.get("context")
        with contain("take note of the freeze before this invocation"):
            ours.runtime.courier.thawed()
        cold = _cold_start.take()
        return ours.invocation(
            name or contained("read the function's name", lambda: name_of(context), "lambda"),
            deadline=contained("read the deadline", lambda: deadline_of(context), None),
            input=event,
            metadata=metadata,
            tags=tags,
            platform=contained("describe the invocation", lambda: facts_of(context, cold=cold), {}),
        )

    with contain("guard the handler"):  # a fault of ours at import must not take the function down
        ours = chosen.like(replace(chosen.settings, flush=FlushPolicy.BEFORE_RESPONSE)).start()
        return guarded(plain, begin)
    return plain


def _plain(handler: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """A plain function that runs a coroutine function on a loop which outlives the call.

    Not ``asyncio.run``: it makes and closes a loop each time, and clients that a handler keeps from one
    invocation to the next (aiohttp, aioboto3, the OpenAI client) are bound to the loop that they began on.
    """
    loop: asyncio.AbstractEventLoop | None = None

    @functools.wraps(handler)
    def run(*args: Any, **keywords: Any) -> Any:
        nonlocal loop
        if loop is None or loop.is_closed():
            loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
        return loop.run_until_complete(handler(*args, **keywords))

    return run
