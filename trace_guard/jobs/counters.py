"""How many steps of a job have come to which end."""

from __future__ import annotations

import threading

__all__ = ["StepCounters"]


class StepCounters:
    """Any thread may count.

    Attributes:
        expected: how many steps there will be, as far as that is known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {"done": 0, "failed": 0, "skipped": 0}
        self.expected = 0

    def count(self, end: str) -> None:
        """A step is ``done``, ``failed`` or ``skipped``."""
        with self._lock:
            self._counts[end] += 1

    def expect(self, more: int) -> None:
        with self._lock:
            self.expected += more

    def taken(self) -> dict[str, int]:
        """The counts so far."""
        with self._lock:
            return dict(self._counts)
