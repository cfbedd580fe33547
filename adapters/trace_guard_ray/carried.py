"""What Ray's libraries call for a program, as Ray Data does in ``map_batches``: they bring no context along."""

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
    """A function or a class, guarded, whose calls lie below the span that is current now::

        with guard.invocation("score"):
            dataset.map_batches(carried(score_batch))

    Each call is a span; of a class, that it is made, and each call of a public method or of the object itself.

    Args:
        target: guarded already, or else guarded with the default settings. It stays as it is.

    Raises:
        TypeError: it is neither a function nor a class.
    """
    given: Any = target
    result: T = _carried_class(given) if inspect.isclass(given) else _carried_function(given)
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
    if not any(hasattr(one, CALL) for one in methods.values()):
        below = guard_actor(below)
        methods = dict(inspect.getmembers(below, inspect.isfunction))
    with contain("carry the context"):
        parent = current_parent()
        for name, method in methods.items():
            if hasattr(method, CALL):
                call, plain = getattr(method, CALL)
                setattr(below, name, guarded_function(plain, call.with_parent(parent)))
    return below
