"""The decorator for functions that Ray runs as tasks."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from trace_guard import FlushPolicy, Guard
from trace_guard.contain import contain
from trace_guard.invocation.invocation import NOTHING
from trace_guard.invocation.misuse import check_decorated
from trace_guard.invocation.wrap import guarded
from trace_guard.settings import Capture

from .call import GuardedCall
from .context import WithoutContext, receives
from .options import Options

__all__ = ["CALL", "guard_task", "guarded_function"]

F = TypeVar("F", bound=Callable[..., Any])

CALL = "__trace_guard_call__"
"""The attribute of a guarded function that holds its :class:`.call.GuardedCall` and the unguarded function."""


@overload
def guard_task(function: F) -> F: ...


@overload
def guard_task(
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
) -> Callable[[F], F]: ...


def guard_task(
    function: Any = NOTHING,
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
) -> Any:
    """Guard a function that Ray runs as a task. Each attempt is a span below the span that was current where the task
    was submitted, or a trace of its own. It is closed however the attempt ends.

    Use it bare or with keywords, below ``@ray.remote``. A call without Ray is guarded like that of any function.

    Args:
        guard: by default the process's own, see :func:`trace_guard.configure`. Its settings are sent to the workers.
            A worker takes only directory, destination and key from its environment, see
            :func:`trace_guard_ray.runtime_env`.
        project, project_id: the Braintrust project of tasks that are submitted outside of any span.
        name: of the span; by default the function's name.
        capture_input, capture_output: whether arguments and result are logged. A function gets the value and
            returns what is logged in its place. By default as configured in the settings. See docs/capture.md.
        tags, metadata: logged on the span; tags only on a span without a parent.
        flush: when rows are delivered. By default in the background, those of many tasks in one request, because the
            worker lives on. If it dies first, the next worker of its node or the driver delivers them. With
            ``before-response`` each task waits for its delivery.

    Raises:
        TypeError: the decorated object is not a function.
        SettingsError: a keyword's value is not accepted.
    """
    options = Options(
        guard, name=name, tags=tags, metadata=metadata, project=project, project_id=project_id,
        capture_input=capture_input, capture_output=capture_output, flush=flush,
    )
    return functools.partial(_guarded, options=options) if function is NOTHING else _guarded(function, options)


def _guarded(function: Callable[..., Any], options: Options) -> Callable[..., Any]:
    _check(function)
    if options.is_off:
        return function
    with contain("guard a task"):  # a fault of ours at import must not take the program down
        options.start()
        return guarded_function(function, GuardedCall(options, options.name or function.__qualname__))
    return function


def guarded_function(function: Callable[..., Any], call: GuardedCall) -> Callable[..., Any]:
    """A function like ``function`` whose calls are spans, and to which Ray sends the context."""
    wrapper = guarded(WithoutContext(function), call)
    receives(wrapper, function)
    setattr(wrapper, CALL, (call, function))
    return wrapper


def _check(function: object) -> None:
    if hasattr(function, "remote"):
        raise TypeError(
            f"{_name_of(function)} is a task of Ray already: put @guard_task below @ray.remote, next to the function"
        )
    if inspect.isclass(function):
        raise TypeError(f"{function.__qualname__} is a class: use @guard_actor for actors")
    check_decorated(function, "guard_task")
    if not inspect.isfunction(function):
        raise TypeError(
            f"{function!r} is not a function made with def: write a function that calls it, and use @guard_task there"
        )


def _name_of(remote: Any) -> str:
    return str(getattr(remote, "_function_name", None) or getattr(remote, "__name__", None) or remote)
