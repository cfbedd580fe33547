"""Watches over submitted tasks, so that the spans of workers that died are closed while the program still runs.

One thread for each process that submits. It asks Ray which tasks are done, without fetching results: of a task that
has failed for Ray's own reasons, and not in user code, there is an object without a size. Each result is held for
about a quarter of a second longer than it would have been.

https://docs.ray.io/en/latest/ray-core/api/doc/ray.wait.html
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import Any

from trace_guard.contain import contain

from .sweep import SWEEP

__all__ = ["WATCH"]

_LOOK_SECONDS = 0.25
# However many are waited for, looking takes no more than this share of the time.
_SHARE = 0.05


class Watch:
    """The tasks of this process that are not known to be done."""

    def __init__(self) -> None:
        self._arrived: deque[Any] = deque()
        self._awake = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, submitted: Any) -> None:
        """Watch over what Ray has returned for a submission: a reference, several, or a generator of some."""
        if isinstance(submitted, list):
            submitted = submitted[0] if submitted else None  # they are there together
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
                SWEEP.prepare()
                self._thread = threading.Thread(target=self._run, name="trace-guard-ray", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        pending: list[Any] = []
        while True:
            if not pending and not self._arrived and not SWEEP.is_looking:
                self._awake.clear()
                if not self._arrived:
                    self._awake.wait()
            while self._arrived:
                pending.append(self._arrived.popleft())
            began, left = time.monotonic(), []
            if pending:
                # Of a worker that died at a task which went well at another one nothing else tells.
                SWEEP.look_on()
                with contain("watch over tasks"):
                    left = self._look(pending)
            pending = left
            SWEEP.go_on()
            time.sleep(max(_LOOK_SECONDS, (time.monotonic() - began) / _SHARE))

    def _look(self, pending: list[Any]) -> list[Any]:
        """Those that are not done."""
        import ray
        from ray.experimental import get_local_object_locations

        if not ray.is_initialized():
            return []
        done, left = ray.wait(pending, num_returns=len(pending), timeout=0, fetch_local=False)
        if done:
            places = get_local_object_locations(done)
            if any(places.get(one, {}).get("object_size") is None for one in done):
                SWEEP.ask()
        return list(left)


WATCH = Watch()
"""Over the tasks that this process submits."""
