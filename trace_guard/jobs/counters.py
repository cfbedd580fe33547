"""Counts how the steps of a job ended."""

from __future__ import annotations

import threading

__all__ = ["StepCounters"]


class StepCounters:
    """Counts of steps. Any thread may call the methods.

    Attributes:
        expected: the number of steps that have run or will run; None if that is not known.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts = {"done": 0, "failed": 0, "skipped": 0}
        self.expected: int | None = 0

    def count(self, end: str) -> None:
        """Count the end of a step: ``done``, ``failed`` or ``skipped``."""
        with self._lock:
            self._counts[end] += 1

    def expect(self, more: int | None) -> None:
        """Add to the expected steps. None makes their number unknown."""
        with self._lock:
            self.expected = None if more is None or self.expected is None else self.expected + more

    def snapshot(self) -> dict[str, int]:
        """The counts so far."""
        with self._lock:
            return dict(self._counts)
