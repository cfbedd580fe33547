"""A deadline is a point in time, not a duration, so functions can pass it on without arithmetic."""

from __future__ import annotations

import math
import time
from typing import NamedTuple

__all__ = ["Deadline"]


class Deadline(NamedTuple):
    """An absolute point on the monotonic clock, in seconds. Infinity means "no deadline"."""

    at: float

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """The point ``seconds`` from now. A negative number gives a point in the past."""
        return cls(time.monotonic() + seconds)

    @classmethod
    def never(cls) -> Deadline:
        """A deadline that never expires."""
        return cls(math.inf)

    @property
    def remaining(self) -> float:
        """The seconds left, never below 0.0. Infinity without a deadline."""
        return max(0.0, self.at - time.monotonic())

    @property
    def expired(self) -> bool:
        return time.monotonic() >= self.at

    @property
    def epoch(self) -> float | None:
        """The same point on the wall clock, in seconds since the epoch. None without a deadline."""
        return None if math.isinf(self.at) else time.time() + (self.at - time.monotonic())

    def minus(self, seconds: float) -> Deadline:
        """The point ``seconds`` earlier."""
        return Deadline(self.at - seconds)

    def capped(self, seconds: float) -> Deadline:
        """The earlier of this deadline and ``seconds`` from now."""
        return min(self, Deadline.after(seconds))
