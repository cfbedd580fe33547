"""Decides by the counts of its steps whether a job that raised nothing has failed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from ..errors import SettingsError

__all__ = ["FailIf", "check_fail_if", "has_failed"]

FailIf: TypeAlias = float | Callable[[Mapping[str, int]], object]
"""A share of the steps, from 0 to 1: more failed ones make the job an error. Or a function of the counts ``done``,
``failed`` and ``skipped`` that returns True for an error."""


def check_fail_if(value: Any) -> None:
    """Check the keyword.

    Raises:
        SettingsError: it is neither a share nor a function.
    """
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    is_share = is_number and math.isfinite(value) and 0 <= value < 1
    if value is not None and not callable(value) and not is_share:
        raise SettingsError(
            f"fail_if={value!r} is not accepted: it takes a share of failed steps from 0 (any) to below 1, or a "
            "function of the counts done, failed and skipped"
        )


def has_failed(fail_if: FailIf, counts: Mapping[str, int]) -> bool:
    """True if a job with these counts of steps is an error."""
    if callable(fail_if):
        return bool(fail_if(dict(counts)))
    tried = counts["done"] + counts["failed"]
    return tried > 0 and counts["failed"] / tried > fail_if
