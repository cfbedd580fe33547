"""Facts about calls of guarded functions that decorators of several platforms need."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from ..contain import contained

__all__ = ["is_plain_json", "never_runs", "takes_receiver"]

_RECEIVERS = ("self", "cls")
_PLAIN = (str, int, float, bool, type(None))
# A larger result is given to an encoder, which is faster than a loop in Python.
_MOST_VALUES = 2000


def takes_receiver(function: Callable[..., Any]) -> bool:
    """True for a method, whose first argument is an object or a class."""
    parameters = contained("read a signature", lambda: list(inspect.signature(function).parameters), [])
    return bool(parameters) and parameters[0] in _RECEIVERS


def never_runs(result: Any) -> bool:
    """True for work that runs only when somebody iterates over it or awaits it."""
    return inspect.isgenerator(result) or inspect.isasyncgen(result) or inspect.iscoroutine(result)


def is_plain_json(result: Any) -> bool:
    """True for a small result of JSON types, which every encoder writes as it is."""
    values, count = [result], 0
    while values:
        value = values.pop()
        if type(value) in _PLAIN:
            continue
        is_object = type(value) is dict
        if not is_object and type(value) is not list:
            return False
        count += len(value)
        if count > _MOST_VALUES or (is_object and any(type(key) is not str for key in value)):
            return False
        values.extend(value.values() if is_object else value)
    return True
