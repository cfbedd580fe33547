"""Fires before deadlines, and refreshes the journal's time while invocations run.

One thread does both. It uses no signals: platforms may run handlers off the main thread, and user code may use
SIGALRM. Each alarm has its own key and is looked up when it is due, so it can never fire into a later invocation after
the process was frozen.
"""

from __future__ import annotations

import heapq
import math
import threading
from collections.abc import Callable

from ..contain import contain
from ..deadline import Deadline
from ..system.clock import monotonic
from ..system.threads import QuietThread

__all__ = ["Watchdog"]

_HEARTBEAT = 1.0


class Watchdog:
    """Calls back at deadlines. Its thread starts with the first invocation, and sleeps while no invocation runs.

    Args:
        heartbeat: called about once a second while anything is armed.
    """

    def __init__(self, heartbeat: Callable[[], None]) -> None:
        self._heartbeat = heartbeat
        self.after_fork()

    def after_fork(self) -> None:
        """Reset the state, as in a forked child: no thread, nothing armed."""
        # Not entered through the condition: its methods are Python code, in which a signal handler may raise after the
        # lock is taken.
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._armed: dict[int, Callable[[], None] | None] = {}
        self._alarms: list[tuple[float, int]] = []
        self._next_key = 0
        # When the thread's sleep ends: never while it is idle, at once while it is awake.
        self._wakes_at = -math.inf
        self._thread: threading.Thread | None = None

    def arm(self, deadline: Deadline, fire: Callable[[], None]) -> int:
        """Call ``fire`` on a separate thread at the deadline, unless it is disarmed first. Returns its key.

        Without a deadline it only keeps the heartbeat going.
        """
        with self._lock:
            self._next_key += 1
            key = self._next_key
            self._armed[key] = fire
            if deadline != Deadline.never():
                heapq.heappush(self._alarms, (deadline.at, key))
            if self._thread is None or not self._thread.is_alive():
                self._start()
            elif self._wakes_at == math.inf or self._wakes_at > deadline.at:
                self._changed.notify()
            return key

    def disarm(self, key: int) -> None:
        with self._lock:
            self._armed.pop(key, None)

    def _start(self) -> None:
        thread = QuietThread(target=self._run, name="trace-guard-watchdog", daemon=True)
        with contain("start the watchdog"):
            thread.start()
            self._thread = thread

    def _run(self) -> None:
        lock, changed = self._lock, self._changed
        while True:
            with lock:
                if changed is not self._changed:
                    return  # reset, with another thread to come
                due = self._take_due()
                busy = bool(self._armed)
                if not due:
                    changed.wait(self._until_next(busy))
                    self._wakes_at = -math.inf
            for fire in due:
                # One thread per alarm: closing and delivering takes a while, and the next alarm may be due.
                try:
                    QuietThread(target=fire, name="trace-guard-timeout", daemon=True).start()
                except RuntimeError:  # no thread can be started
                    with contain("close what timed out"):
                        fire()
            if busy:
                with contain("leave a sign of life"):
                    self._heartbeat()

    def _take_due(self) -> list[Callable[[], None]]:
        now, due = monotonic(), []
        while self._alarms and (self._alarms[0][0] <= now or self._alarms[0][1] not in self._armed):
            _, key = heapq.heappop(self._alarms)
            fire = self._armed.get(key)
            if fire is not None:
                self._armed[key] = None  # stays armed for the heartbeat, but fires only once
                due.append(fire)
        return due

    def _until_next(self, busy: bool) -> float | None:
        """Seconds to sleep; None means until something is armed."""
        now = monotonic()
        alarm = self._alarms[0][0] - now if self._alarms else None
        pause = _HEARTBEAT if busy else None
        if alarm is not None:
            pause = alarm if pause is None else min(alarm, pause)
        self._wakes_at = math.inf if pause is None else now + pause
        return None if pause is None else max(0.0, pause)
