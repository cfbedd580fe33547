"""Watches submitted tasks, so that the spans of dead workers are closed while the program still runs.

Each process that submits tasks has one thread for this. It asks Ray which tasks are done, without fetching results. A
task that failed in Ray and not in user code has a result without a size. Each result is held for about a quarter of a
second longer than without the watch, and not beyond ``ray.shutdown()``.

https://docs.ray.io/en/latest/ray-core/api/doc/ray.wait.html
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from trace_guard.contain import contain
from trace_guard.system.clock import monotonic
from trace_guard.system.threads import QuietThread

from .connection import ray_connection
from .sweep import orphan_sweeper

__all__ = ["task_watcher"]

_LOOK_SECONDS = 0.25
# The largest share of time that checks may take, however many tasks there are.
_SHARE = 0.05


class TaskWatcher:
    """The submitted tasks of this process that are not known to be done."""

    def __init__(self) -> None:
        self._arrived: deque[Any] = deque()
        self._pending: list[Any] = []
        self._awake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._arrived) + len(self._pending)

    def add(self, submitted: Any) -> None:
        """Watch the result of a submission: a reference, several, or a generator of references."""
        if isinstance(submitted, list):
            submitted = submitted[0] if submitted else None  # all references are done at the same time
        elif hasattr(submitted, "completed"):
            submitted = submitted.completed()
        if submitted is None:
            return
        self._arrived.append(submitted)
        if not self._awake.is_set():
            self._start()
            self._awake.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None or not self._thread.is_alive():
                orphan_sweeper.prepare()
                ray_connection.before_shutdown(self._release)
                self._thread = QuietThread(target=self._run, name="trace-guard-ray", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            if not self._pending and not self._arrived and not orphan_sweeper.is_looking:
                self._awake.clear()
                if not self._arrived:
                    self._awake.wait()
            began = monotonic()
            if self._pending or self._arrived:
                # Check the journals too: a dead worker goes unnoticed if another worker completes its task.
                orphan_sweeper.look_on()
                with contain("watch tasks"), ray_connection.used() as is_running:
                    pending, self._pending = self._pending, []
                    while self._arrived:
                        pending.append(self._arrived.popleft())
                    if is_running:
                        self._pending = self._look(pending)
                    del pending
            orphan_sweeper.go_on()
            time.sleep(max(_LOOK_SECONDS, (monotonic() - began) / _SHARE))

    def _look(self, pending: list[Any]) -> list[Any]:
        """The tasks that are not done."""
        import ray
        from ray.experimental import get_local_object_locations

        done, left = ray.wait(pending, num_returns=len(pending), timeout=0, fetch_local=False)
        if done:
            places = get_local_object_locations(done)
            if any(places.get(result, {}).get("object_size") is None for result in done):
                orphan_sweeper.ask()
        return list(left)

    def _release(self) -> None:
        self._arrived.clear()
        self._pending = []


task_watcher = TaskWatcher()
"""The watcher of this process."""
