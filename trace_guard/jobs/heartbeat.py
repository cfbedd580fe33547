"""Signs of life of a job: what is open for hours, and is not stale."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from ..contain import contain
from ..deadline import Deadline
from ..runtime.watchdog import Watchdog

__all__ = ["HEARTBEAT_SECONDS", "Heartbeat"]

HEARTBEAT_SECONDS = 60.0
"""How often a job says that it is alive, unless it was told otherwise."""


class Heartbeat:
    """Calls ``beat`` every so many seconds, on threads of the watchdog.

    Args:
        seconds: between two of them; 0 or infinity for none.
    """

    def __init__(self, watchdog: Watchdog, beat: Callable[[], object], seconds: float) -> None:
        self._watchdog = watchdog
        self._beat = beat
        self._seconds = seconds
        self._lock = threading.Lock()
        self._alarm: int | None = None
        self._is_stopped = not 0 < seconds < math.inf

    def start(self) -> None:
        with self._lock:
            self._disarm()
            if not self._is_stopped:
                self._alarm = self._watchdog.arm(Deadline.after(self._seconds), self._fire)

    def stop(self) -> None:
        with self._lock:
            self._is_stopped = True
            self._disarm()

    def _disarm(self) -> None:
        if self._alarm is not None:
            self._watchdog.disarm(self._alarm)
            self._alarm = None

    def _fire(self) -> None:
        with contain("leave a heartbeat"):
            self._beat()
        self.start()
