"""A deadline is a point in time, not a duration, so functions can pass it on without arithmetic."""

from __future__ import annotations

import math
import time
from datetime import timedelta
from typing import NamedTuple, TypeAlias

from .system.clock import monotonic

__all__ = ["Deadline", "Seconds", "seconds_of"]

Seconds: TypeAlias = float | timedelta
"""A length of time: a number of seconds, or a timedelta."""


def seconds_of(value: object) -> float:
    """A length of time in seconds.

    Raises:
        ValueError: it is not a finite number, 0 or more, or a timedelta of such a length.
    """
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{value!r} is not a number of seconds, 0 or more, or a timedelta")
    return float(value)


class Deadline(NamedTuple):
    """An absolute point on the monotonic clock, in seconds. Infinity means "no deadline"."""

    at: float

    @classmethod
    def after(cls, seconds: Seconds) -> Deadline:
        """The point ``seconds`` from now, a number or a timedelta. A negative one gives a point in the past."""
        return cls(monotonic() + (seconds.total_seconds() if isinstance(seconds, timedelta) else seconds))

    @classmethod
    def of(cls, value: Deadline | Seconds) -> Deadline:
        """The deadline itself, or the point that many seconds from now.

        Raises:
            ValueError: it is neither a deadline nor a length of time.
        """
        return value if isinstance(value, cls) else cls.after(seconds_of(value))

    @classmethod
    def never(cls) -> Deadline:
        """A deadline that never expires."""
        return cls(math.inf)

    @property
    def remaining(self) -> float:
        """The seconds left, never below 0.0. Infinity without a deadline."""
        return max(0.0, self.at - monotonic())

    @property
    def expired(self) -> bool:
        """True from the deadline on."""
        return monotonic() >= self.at

    @property
    def epoch(self) -> float | None:
        """The same point on the wall clock, in seconds since the epoch. None without a deadline."""
        return None if math.isinf(self.at) else time.time() + (self.at - monotonic())

    def minus(self, seconds: float) -> Deadline:
        """The point ``seconds`` earlier."""
        return Deadline(self.at - seconds)

    def capped(self, seconds: float) -> Deadline:
        """The earlier of this deadline and ``seconds`` from now."""
        return min(self, Deadline.after(seconds))
