"""Facts about calls of guarded functions that decorators of several platforms need."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..contain import contained

__all__ = ["never_runs", "takes_receiver"]

_RECEIVERS = ("self", "cls")


def takes_receiver(function: Callable[..., Any]) -> bool:
    """True for a method, whose first argument is an object or a class."""
    parameters = contained("read a signature", lambda: list(inspect.signature(function).parameters), [])
    return bool(parameters) and parameters[0] in _RECEIVERS


def never_runs(result: Any) -> bool:
    """True for work that runs only when somebody iterates over it or awaits it."""
    return inspect.isgenerator(result) or inspect.isasyncgen(result) or inspect.iscoroutine(result)
