"""A dead backend must cost a healthy function nothing."""

from __future__ import annotations

import time

__all__ = ["Breaker", "bounded_wish"]

_THRESHOLD = 3
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 5.0
# What a server may ask for with Retry-After; a longer wish is asked again after this.
_LONGEST_WISH = 60.0


def bounded_wish(seconds: float | None) -> float:
    """The seconds for which a server that has asked for so many is left alone; 0.0 if it did not ask, or nonsense."""
    return min(_LONGEST_WISH, seconds) if seconds is not None and seconds > 0 else 0.0


class Breaker:
    """Counts failed deliveries in a row (not attempts); from the third on it lets only a probe through now
    and then: after 1 s, then 2, 4 and every 5. What the server itself asks for with ``Retry-After`` holds from
    the first failure on. Not thread-safe: the courier calls it under its lock."""

    def __init__(self) -> None:
        self.failures = 0
        self.last_error: str | None = None
        self._pause = 0.0
        self._paused_until = self._asked_until = 0.0

    @property
    def is_open(self) -> bool:
        """True while deliveries are known to fail: then nobody should wait for one."""
        return self.failures >= _THRESHOLD

    @property
    def retry_at(self) -> float:
        """When something may be sent again, on the monotonic clock."""
        return max(self._paused_until, self._asked_until)

    def allows(self) -> bool:
        return time.monotonic() >= self.retry_at

    def let_through(self) -> None:
        """Allow the next one, whatever came of those before, unless the server has asked to be left alone."""
        self._paused_until = 0.0

    def failed(self, error: str, retry_after: float | None = None) -> None:
        self.failures += 1
        self.last_error = error
        now = time.monotonic()
        if self.is_open:
            self._pause = min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
            self._paused_until = now + self._pause
        if retry_after is not None:
            self._asked_until = now + bounded_wish(retry_after)

    def succeeded(self) -> None:
        self.failures = 0
        self.last_error = None
        self._pause = self._paused_until = self._asked_until = 0.0
