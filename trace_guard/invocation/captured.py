"""What is logged of inputs and outputs: nothing, a redacted copy, or a copy of what a user's function returns."""

from __future__ import annotations

from typing import Any

from ..contain import contained
from ..settings import Capture
from .state import NOTHING, GuardLike

__all__ = ["captured", "captured_input", "captured_output"]


def captured_input(guard: GuardLike, value: Any) -> Any:
    """What is logged for an input: plain, redacted and cut; NOTHING if nothing is."""
    return captured(guard, guard.settings.capture_input, value, "capture_input")


def captured_output(guard: GuardLike, value: Any) -> Any:
    """:func:`captured_input` for an output."""
    return captured(guard, guard.settings.capture_output, value, "capture_output")


def captured(guard: GuardLike, capture: Capture, value: Any, keyword: str) -> Any:
    """What is logged for a value.

    Args:
        capture: a function is called with the value. If it raises or returns None, nothing is logged.
        keyword: its name, for the report of an exception.
    """
    if value is NOTHING or not capture:
        return NOTHING
    if callable(capture):
        value = contained(f"call {keyword}", lambda: capture(value), None)
        if value is None:
            return NOTHING
    return guard.payload.copy(value)
