"""Refuses wrong uses of decorators when the user's module is imported, with the fix in the message."""

from __future__ import annotations

import inspect
from typing import Any

__all__ = ["check_decorated"]


def check_decorated(value: Any, decorator: str) -> None:
    """Check that a decorator is applied to something that can be called again and again.

    Args:
        decorator: its name, as in ``guard_handler``.

    Raises:
        TypeError: it is not; the message says what to write.
    """
    if isinstance(value, (staticmethod, classmethod)):
        kind = type(value).__name__
        raise TypeError(f"@{decorator} can't decorate a {kind} object: put it below @{kind}, next to the function")
    if inspect.isclass(value):
        raise TypeError(
            f"{decorator} can't guard the class {value.__name__}, which is not a function: decorate the function or "
            "method that does the work, or guard an instance that can be called"
        )
    if callable(value):
        return
    fix = ""
    if isinstance(value, str):
        fix = f": write @{decorator}(name={value!r}) for the name of its traces, or project={value!r} for the project"
    elif value is None:
        fix = ": what should be a function is None, maybe the result of a function without a return"
    raise TypeError(
        f"{decorator} is used bare or with keywords, such as {decorator}(project=...), and not with {value!r}{fix}"
    )
