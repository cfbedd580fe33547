"""The threads that work on the items of one call of ``process()``."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

__all__ = ["Workers"]

R = TypeVar("R")


class Workers:
    """Started as they are needed. They hold on to nothing but the work that they are given, so that whoever has asked
    for results, and asks no more, can be let go of.

    Args:
        count: how many threads.
    """

    def __init__(self, count: int) -> None:
        self._pool = ThreadPoolExecutor(count, thread_name_prefix="process")
        self._unfinished: set[Future[Any]] = set()
        self._is_stopped = False

    def submit(self, work: Callable[..., R], *args: Any) -> Future[R]:
        """Have it done, in a copy of the context that this is called in."""
        future = self._pool.submit(contextvars.copy_context().run, work, *args)
        self._unfinished.add(future)
        future.add_done_callback(self._unfinished.discard)
        return future

    def stop(self, waits: bool) -> None:
        """Begin no more; ``waits``: for what is being worked on. May be called again, to wait after all."""
        self._is_stopped = True
        self._pool.shutdown(wait=waits, cancel_futures=True)

    @property
    def are_over(self) -> bool:
        """True if they are stopped, and none is at work."""
        return self._is_stopped and not self._unfinished
