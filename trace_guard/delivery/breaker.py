"""The circuit breaker: while the backend is down, it keeps invocations from waiting for it."""

from __future__ import annotations

from ..deadline import Deadline
from ..system.clock import monotonic

__all__ = ["LONGEST_RETRY_AFTER", "RETRY_SECONDS", "Breaker", "bounded_retry_after"]

RETRY_SECONDS = 0.5
"""The pause before a failed request is repeated."""

LONGEST_RETRY_AFTER = 60.0
"""The most seconds of ``Retry-After`` that are respected."""

_THRESHOLD = 3
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 5.0
# How long an invocation waits for a probe while the breaker is open.
_PROBE_SECONDS = 0.25
# The shortest wait without an answer that counts as a failed request.
_NO_ANSWER_SECONDS = 0.5


def bounded_retry_after(seconds: float | None) -> float:
    """The pause that a server asked for, at most :data:`LONGEST_RETRY_AFTER`; 0.0 for None or a senseless value."""
    return min(LONGEST_RETRY_AFTER, seconds) if seconds is not None and seconds > 0 else 0.0


class Breaker:
    """Counts failed requests in a row, and opens at the third.

    While it is open, a single request (a probe) may be sent after 1 s, then 2, 4 and every 5. The first success
    closes it. ``Retry-After`` pauses requests from the first failure on. Not thread-safe: its owner holds a lock.

    Attributes:
        failures: failed requests since the last success.
        last_error: why the last request failed, or None if it succeeded.
    """

    def __init__(self) -> None:
        self.failures = 0
        self.last_error: str | None = None
        self._pause = 0.0
        self._paused_until = self._asked_until = 0.0

    @property
    def is_open(self) -> bool:
        """True while the backend is known to be down, so that nobody should wait for it."""
        return self.failures >= _THRESHOLD

    @property
    def retry_at(self) -> float:
        """When the next request may be sent, on the monotonic clock."""
        return max(self._paused_until, self._asked_until)

    def allows(self) -> bool:
        """True if a request may be sent now."""
        return monotonic() >= self.retry_at

    def bound(self, deadline: Deadline) -> Deadline:
        """Until when an invocation should wait: briefly for a probe, and not at all if no request may be sent."""
        if self.is_open:
            return deadline.capped(_PROBE_SECONDS if self.allows() else 0.0)
        return deadline if self.retry_at < deadline.at else deadline.capped(0.0)

    def let_through(self) -> None:
        """Allow a request at once, unless the server has asked for a pause."""
        self._paused_until = 0.0

    def failed(self, error: str, retry_after: float | None = None) -> None:
        """Count a failed request."""
        self.failures += 1
        self.last_error = error
        now = monotonic()
        if self.is_open:
            self._pause = min(_LONGEST_PAUSE, self._pause * 2 or _FIRST_PAUSE)
            self._paused_until = now + self._pause
        if retry_after is not None:
            self._asked_until = now + bounded_retry_after(retry_after)

    def unanswered(self, seconds: float) -> bool:
        """Count a request that got no answer for so long. Returns False, and counts nothing, if that is too short to
        mean anything. A short wait for a probe does mean something."""
        if not self.is_open and seconds < _NO_ANSWER_SECONDS:
            return False
        self.failed(f"no answer within {seconds:.2f} s")
        return True

    def succeeded(self) -> None:
        """Close the breaker."""
        self.failures = 0
        self.last_error = None
        self._pause = self._paused_until = self._asked_until = 0.0
