"""Closes and delivers the invocations of many short tasks together, while the worker runs its next tasks.

A task's end is written to the journal at once, so it survives a worker that is killed during its next task. A moment
later, open spans are closed and rows are sent for all tasks that have ended by then, in one request.
"""

from __future__ import annotations

import atexit
import threading
from collections import deque
from collections.abc import Callable

from trace_guard import Deadline, FlushPolicy, Invocation
from trace_guard.contain import contain
from trace_guard.outcome import Way
from trace_guard.runtime.state import PROCESS
from trace_guard.system.threads import QuietThread

from .facts import in_worker

__all__ = ["GROUP_SECONDS", "delivery_group"]

GROUP_SECONDS = 0.2
"""The seconds that an ended task waits for others to end."""
_SETTLE_SECONDS = 2.0
_DRAIN_SECONDS = 1.0

Settle = Callable[[Deadline, Way], object]


class DeliveryGroup:
    """The ended invocations of this worker that have yet to be settled: their open spans closed, their rows sent."""

    def __init__(self) -> None:
        self._ended: deque[Settle] = deque()
        self._awake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, invocation: Invocation) -> None:
        """Deliver this invocation together with others when it ends, unless its task must wait for delivery."""
        if invocation.guard.flush_policy is FlushPolicy.AFTER_RESPONSE and in_worker():
            invocation.state.after_response = self._schedule

    def _schedule(self, settle: Settle) -> Way | None:
        with contain("empty the SDK's queue"):
            if not PROCESS.sdk.is_quiet:
                PROCESS.sdk.drain(Deadline.after(_DRAIN_SECONDS))
        self._ended.append(settle)
        if not self._awake.is_set():
            self._start()
            self._awake.set()
        return Way.BACKGROUND

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                atexit.register(self._settle)
                self._thread = QuietThread(target=self._run, name="trace-guard-ray-group", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            self._awake.wait()
            pause.wait(GROUP_SECONDS)
            self._awake.clear()
            self._settle()

    def _settle(self) -> None:
        while True:
            try:
                settle = self._ended.popleft()
            except IndexError:
                return
            with contain("close and deliver ended tasks"):
                # This starts the delivery without waiting for it.
                settle(Deadline.after(_SETTLE_SECONDS), Way.BEFORE_RESPONSE)


delivery_group = DeliveryGroup()
"""The group of this process."""
