"""Keeps threads of this package out of Ray while it shuts down.

A call into Ray that comes too late starts Ray again, and the program's next ``ray.init()`` fails. So calls are made
inside of :meth:`Connection.used`, and a shutdown waits for them. It first drops the references to results, while Ray
can still take them back.

``disconnect`` in ``ray._private.worker`` is the first step of each shutdown: by name, at the end of a ``with
ray.init()`` block, and at exit. See https://github.com/ray-project/ray/blob/master/python/ray/_private/worker.py.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Iterator
from typing import Any

from trace_guard.contain import contain

__all__ = ["ray_connection"]

# A call that hangs, because the cluster does for example, does not hold up a shutdown for longer.
_CALL_SECONDS = 5.0


class Connection:
    """The connection of this process to Ray."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._releases: list[Callable[[], object]] = []

    @contextlib.contextmanager
    def used(self) -> Iterator[bool]:
        """In this block Ray does not shut down. The value is False if it is not running."""
        import ray

        with self._lock:
            yield ray.is_initialized()

    def before_shutdown(self, release: Callable[[], object]) -> None:
        """Call ``release`` at the beginning of each shutdown. A second registration has no effect."""
        with self._lock:
            if not self._releases:
                with contain("follow Ray's shutdown"):
                    self._hook()
            if release not in self._releases:
                self._releases.append(release)

    def _hook(self) -> None:
        import ray
        import ray._private.worker as worker

        owner: Any = worker if hasattr(worker, "disconnect") else ray
        name = "disconnect" if owner is worker else "shutdown"
        plain = getattr(owner, name)

        @functools.wraps(plain)
        def end(*args: Any, **keywords: Any) -> Any:
            is_alone = self._lock.acquire(timeout=_CALL_SECONDS)
            try:
                for release in self._releases:
                    with contain("release references of Ray"):
                        release()
                return plain(*args, **keywords)
            finally:
                if is_alone:
                    self._lock.release()

        setattr(owner, name, end)


ray_connection = Connection()
"""The connection of this process."""
