"""The threads that process the items of one ``process()`` call."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["Workers"]

R = TypeVar("R")


class Workers:
    """A pool of threads that start on demand. They hold no reference to the iterator of results, so that an abandoned
    iterator can be garbage-collected.

    Args:
        count: the number of threads.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="process")
        self._unfinished: set[Future[Any]] = set()
        self._is_stopped = False

    def submit(self, work: Callable[..., R], *args: Any) -> Future[R]:
        """Run ``work`` on a thread, in a copy of the current context."""
        future = self._pool.submit(contextvars.copy_context().run, work, *args)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def stop(self, waits: bool) -> None:
        """Start no more work. May be called again to wait.

        Args:
            waits: whether to wait for the running work.
        """
        self._is_stopped = True
        self._pool.shutdown(wait=waits, cancel_futures=True)

    @property
    def are_done(self) -> bool:
        """True if the workers are stopped and no work is running."""
        return self._is_stopped and not self._unfinished
