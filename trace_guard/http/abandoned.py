"""Closes the exchanges of response bodies that are neither iterated to the end nor closed."""

from __future__ import annotations

import queue
import threading

from ..contain import contain
from ..system.threads import QuietThread
from .exchange import Exchange

__all__ = ["ABANDONED"]


class _Abandoned:
    """Closes exchanges whose body was garbage-collected, for example after a framework's hook replaced the response.

    It uses a separate thread, because an object may be collected while the current thread holds one of our locks.
    """

    def __init__(self) -> None:
        # The only queue type whose put() is safe while an object is collected.
        self._exchanges: queue.SimpleQueue[Exchange] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def take(self, exchange: Exchange) -> None:
        """Close the exchange, on the thread, if it is open."""
        if not exchange.is_open:
            return
        exchange.leave()
        self._exchanges.put(exchange)
        if self._thread is None or not self._thread.is_alive():
            self._thread = QuietThread(target=self._run, name="trace-guard-abandoned", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            exchange = self._exchanges.get()
            with contain("close an abandoned exchange"):
                exchange.close()
            del exchange


ABANDONED = _Abandoned()
