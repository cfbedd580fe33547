"""Keeps connections to a server open between requests."""

from __future__ import annotations

import threading
import time

from .http_client import HttpConnection

__all__ = ["ConnectionPool"]

_KEPT = 1.0
"""Seconds; half of what gunicorn keeps an idle connection, the shortest of the servers', so that no request meets
its end."""


class ConnectionPool:
    """Reuses connections to a port, as the service's proxy does. Thread-safe."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._lock = threading.Lock()
        self._idle: list[HttpConnection] = []

    def take(self, deadline: float) -> HttpConnection:
        """An idle connection, or a new one.

        Raises:
            OSError: the port does not listen.
        """
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return HttpConnection(self._port, deadline)
            if time.monotonic() - connection.received_at < _KEPT and not connection.stale():
                return connection
            connection.close()

    def park(self, connection: HttpConnection) -> None:
        """Return a connection whose response was read completely."""
        with self._lock:
            self._idle.append(connection)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
