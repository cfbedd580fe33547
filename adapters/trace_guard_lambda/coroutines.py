"""Runs coroutine functions as handlers. Lambda's runtime calls plain functions only."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

from trace_guard import current_invocation
from trace_guard.contain import contain

__all__ = ["is_coroutine_function", "run_on_loop"]

# The most pending tasks that are named.
_NAMES = 10


def is_coroutine_function(handler: Any) -> bool:
    """True for a coroutine function, and for an object whose ``__call__`` is one."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(getattr(handler, "__call__", None))  # noqa: B004


def run_on_loop(handler: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
    """A plain function that runs a coroutine function on a loop which outlives the call.

    ``asyncio.run`` would make and close a loop each time. Clients that a handler keeps from one invocation to the next
    (aiohttp, aioboto3, the OpenAI client) are bound to the loop on which they started.
    """
    of_thread = _Loops()  # tests and local servers call one handler from several threads

    @functools.wraps(handler)
    def run(*args: Any, **keywords: Any) -> Any:
        loop = of_thread.loop
        if loop is None or loop.is_closed():
            loop = of_thread.loop = asyncio.new_event_loop()
            asyncio.set_event_loop(loop)
            of_thread.owner = owner = _Owner()
            # The loop is closed when the function is collected, as in tests, or its thread ends, but not at exit.
            weakref.finalize(owner, loop.close).atexit = False
        result = loop.run_until_complete(handler(*args, **keywords))
        with contain("look for pending tasks"):
            _note_pending(loop)
        return result

    return run


class _Owner:
    """Is collected with the values of its thread."""


class _Loops(threading.local):
    """The event loop of each thread."""

    loop: asyncio.AbstractEventLoop | None = None
    owner: _Owner | None = None


def _note_pending(loop: asyncio.AbstractEventLoop) -> None:
    """Record tasks that outlive their handler. The freeze stops them at any point."""
    pending = asyncio.all_tasks(loop)
    invocation = current_invocation()
    if pending and invocation is not None:
        names = sorted(task.get_name() for task in pending)
        invocation.note({"asyncio.pending_tasks": {"count": len(names), "names": names[:_NAMES]}})
