"""The heartbeat of a job. It distinguishes a trace that is open for hours from a stale one."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

from ..contain import contain
from ..deadline import Deadline
from ..runtime.watchdog import Watchdog

__all__ = ["HEARTBEAT_SECONDS", "Heartbeat"]

HEARTBEAT_SECONDS = 60.0
"""The default interval of the heartbeat, in seconds."""


class Heartbeat:
    """Calls ``beat`` at a fixed interval, on threads of the watchdog.

    Args:
        seconds: the interval; 0 or infinity for no heartbeat.
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
        with contain("write a heartbeat"):
            self._beat()
        self.start()
