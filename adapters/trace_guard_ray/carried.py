"""Context for functions that Ray's libraries call, such as Ray Data's ``map_batches``, which pass none on."""

from __future__ import annotations

import inspect
from typing import Any, TypeVar

from trace_guard.contain import contain

from .actor import guard_actor
from .context import current_parent
from .task import CALL, guard_task, guarded_function

__all__ = ["carried"]

T = TypeVar("T")


def carried(target: T) -> T:
    """A guarded copy of a function or class, whose calls are children of the span that is current now::

        with guard.invocation("score"):
            dataset.map_batches(carried(score_batch))

    Each call is a span. For a class, its creation is a span, as is each call of a public method or of the object.

    Args:
        target: if it is not guarded, the copy is guarded with the default settings. It is not changed itself.

    Raises:
        TypeError: the target is neither a function nor a class.
    """
    source: Any = target
    result: T = _carried_class(source) if inspect.isclass(source) else _carried_function(source)
    return result


def _carried_function(target: Any) -> Any:
    guarded = target if hasattr(target, CALL) else guard_task(target)
    with contain("carry the context"):
        if hasattr(guarded, CALL):
            call, plain = getattr(guarded, CALL)
            return guarded_function(plain, call.with_parent(current_parent()))
    return guarded


def _carried_class(target: Any) -> Any:
    below = type(target.__name__, (target,), {"__module__": target.__module__, "__qualname__": target.__qualname__})
    methods = dict(inspect.getmembers(target, inspect.isfunction))
    if not any(hasattr(method, CALL) for method in methods.values()):
        below = guard_actor(below)
        methods = dict(inspect.getmembers(below, inspect.isfunction))
    with contain("carry the context"):
        parent = current_parent()
        for name, method in methods.items():
            if hasattr(method, CALL):
                call, plain = getattr(method, CALL)
                setattr(below, name, guarded_function(plain, call.with_parent(parent)))
    return below
