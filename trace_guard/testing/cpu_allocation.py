"""Allocates the CPU: a server runs while a request is in flight, and is stopped otherwise."""

from __future__ import annotations

import threading
import time

from .server_process import ServerProcess

__all__ = ["CpuAllocation"]

_LONGEST_STOP = 10.0
"""Seconds that the kernel may take to stop a group; far more than it needs."""


class CpuAllocation:
    """Counts the requests in flight, and stops the server when the last one ends.

    After the response the CPU is "disabled or severely limited"
    (https://cloud.google.com/run/docs/configuring/billing-settings). Here it is disabled, so whatever finishes in time
    here finishes in time there.

    Args:
        throttle: False keeps the CPU allocated for the whole life of the server.
    """

    def __init__(self, process: ServerProcess, *, throttle: bool) -> None:
        self._process = process
        self._throttle = throttle
        self._lock = threading.Lock()
        self._in_flight = 0

    @property
    def _wanted(self) -> bool:
        return self._in_flight > 0 or not self._throttle

    def acquire(self) -> None:
        """A request begins."""
        with self._lock:
            self._in_flight += 1
            if self._in_flight == 1:
                self._process.thaw()

    def release(self) -> None:
        """A request has ended. Returns when every thread is stopped, or when another request has begun."""
        with self._lock:
            self._in_flight -= 1
            if self._wanted:
                return
            self._process.freeze()
        limit = time.monotonic() + _LONGEST_STOP
        while self._process.exit_status is None and not self._wanted:
            # The first process is seen to by its watcher as well, which must not find it killed before it has looked.
            if self._process.frozen and self._process.stopped:
                return
            if time.monotonic() > limit:
                raise RuntimeError(f"SIGSTOP has not stopped every thread of processes {self._process.pids}")
            time.sleep(0.0002)

    def keep(self) -> None:
        """Leave the CPU to the server from now on, as it is while it shuts down."""
        with self._lock:
            self._throttle = False
            self._process.thaw()
