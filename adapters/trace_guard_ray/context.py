"""Sends the current span with each task that is submitted, as a hidden keyword. It becomes the parent of the task's
span.

Ray wraps each submission (``.remote()``) with the attribute ``__ray_invocation_decorator__`` of a function or method,
see ``RemoteFunction`` in https://github.com/ray-project/ray/blob/master/python/ray/remote_function.py. Ray checks calls
against the signature, so this hook and ``__signature__`` are set together. Ray's own tracing sends the context of
OpenTelemetry the same way.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from trace_guard.contain import contain, contained

from .lost_nodes import lost_node_closer
from .watch import task_watcher

__all__ = ["KEYWORD", "WithoutContext", "current_parent", "receives", "sent"]

KEYWORD = "_trace_guard"
"""The keyword that carries the parent among a task's arguments."""

_last: tuple[str, str] = ("", "")


def current_parent() -> str | None:
    """The current span, exported; None without a current span."""
    global _last
    braintrust: Any = sys.modules.get("braintrust")
    if braintrust is None:
        return None
    span = braintrust.current_span()
    if span is braintrust.NOOP_SPAN:
        return None
    # The export is cached, because a span often submits many tasks.
    known, exported = _last
    if known != span.id:
        exported = str(span.export())
        _last = span.id, exported
        lost_node_closer.follow(span)
    return exported


class WithoutContext(functools.partial[Any]):
    """A function that is called without the keyword. ``inspect`` sees the same kind of function."""

    def __call__(self, /, *args: Any, **keywords: Any) -> Any:
        keywords.pop(KEYWORD, None)
        return super().__call__(*args, **keywords)


def receives(wrapper: Callable[..., Any], function: Callable[..., Any]) -> None:
    """Make Ray send the context to ``wrapper``, which replaces ``function``."""
    functools.update_wrapper(wrapper, function)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    last = len(parameters) - any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    parameters.insert(last, inspect.Parameter(KEYWORD, inspect.Parameter.KEYWORD_ONLY, default=None))
    about: Any = wrapper
    about.__signature__ = signature.replace(parameters=parameters)
    about.__ray_invocation_decorator__ = _sending
    # For methods of actors Ray inspects the wrapped function, which has neither attribute.
    del about.__wrapped__


def _sending(invocation: Callable[..., Any]) -> Callable[..., Any]:
    """Ray's submission of a task, with the context added and the task watched."""

    def submit(args: Sequence[Any] | None, keywords: Mapping[str, Any] | None) -> Any:
        submitted = invocation(args, sent(keywords))
        with contain("watch a task"):
            task_watcher.add(submitted)
        return submitted

    return submit


def sent(keywords: Mapping[str, Any] | None) -> dict[str, Any]:
    """A task's keywords with the context added."""
    parent = contained("find the parent of a task", current_parent, None)
    return {**(keywords or {}), **({} if parent is None else {KEYWORD: parent})}
