"""Bodies of responses that nobody iterates to the end, nor closes."""

from __future__ import annotations

import queue
import threading

from ..contain import contain
from .exchange import Exchange

__all__ = ["ABANDONED"]


class _Abandoned:
    """Ends exchanges whose body was dropped, as when a framework's hook has answered with something else.

    On a thread of its own: an object may be collected in the middle of anything, also of what holds locks of ours.
    """

    def __init__(self) -> None:
        # Alone of all queues it may be put to while an object is collected.
        self._exchanges: queue.SimpleQueue[Exchange] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def take(self, exchange: Exchange) -> None:
        """Have it closed if it is open."""
        if not exchange.is_open:
            return
        exchange.leave()
        self._exchanges.put(exchange)
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="trace-guard-abandoned", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            exchange = self._exchanges.get()
            with contain("close what was abandoned"):
                exchange.close()
            del exchange


ABANDONED = _Abandoned()
