"""A small HTTP/1.1 server on the loopback address, over which a test has full power.

The standard library's server can neither stop listening while its port stays its own, nor end its open
connections, nor break one in the middle. All three are what a test of delivery is about, so the accept loop
is written out here. Connections are kept alive and each has a thread.
"""

from __future__ import annotations

import contextlib
import re
import selectors
import socket
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from .http_wire import NotHttp, Request, Response, encoded, end, requests_on

__all__ = ["LoopbackServer", "Route", "find_route"]


@dataclass(frozen=True)
class Route:
    """One line of a table of endpoints: a template like ``/v1/project/{id}``, and the name of a method."""

    method: str
    path: str
    name: str

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The values of the template's fields, or None if the request is for another route."""
        if method != self.method:
            return None
        found = re.fullmatch(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path)), path)
        return found.groupdict() if found else None


def find_route(routes: Sequence[Route], request: Request) -> tuple[Route, dict[str, str]] | None:
    """The first route that the request is for, with the values of its fields."""
    for route in routes:
        fields = route.match(request.method, request.path)
        if fields is not None:
            return route, fields
    return None


class LoopbackServer:
    """Answers on ``127.0.0.1`` by :meth:`respond`, which a subclass supplies. It listens once it is made.

    Args:
        start: False leaves the first :meth:`accept_connections` to the subclass, which has more to prepare.

    Attributes:
        closing: set when the server closes; whatever blocks in :meth:`respond` waits on it too.
    """

    def __init__(self, *, start: bool = True) -> None:
        self.closing = threading.Event()
        # Bound as long as the server lives, and never listening: while connections are refused, nobody else
        # can be given the port, nor can a client that dials it be connected to itself.
        self._placeholder = _bound_socket(0)
        self._port = int(self._placeholder.getsockname()[1])
        self._listener: _Listener | None = None
        self._connections: dict[threading.Thread, socket.socket] = {}
        self._connections_lock = threading.Lock()
        if start:
            self.accept_connections()

    @property
    def address(self) -> str:
        """``host:port``."""
        return f"127.0.0.1:{self._port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def respond(self, request: Request) -> Response | None:
        """Answer a request, on its connection's own thread; None ends the connection without an answer."""
        raise NotImplementedError

    def release_waiting(self) -> None:
        """Make every :meth:`respond` that waits for something return, as its connection has ended."""

    def accept_connections(self) -> None:
        """Listen, on the same port as ever. Does nothing if the server listens already."""
        if self._listener is None:
            self._listener = _Listener(self)

    def refuse_connections(self) -> None:
        """Refuse new connections until :meth:`accept_connections`, and end those that are open."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._end_connections()

    def close(self) -> None:
        """Stop; when this returns, every thread has ended and every socket is closed."""
        self.closing.set()
        self.refuse_connections()
        self._placeholder.close()

    def _end_connections(self) -> None:
        with self._connections_lock:
            open_now = dict(self._connections)
            for connection in open_now.values():
                # Wakes the thread, which closes the socket: closing it here could hit a reused descriptor.
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        limit = time.monotonic() + 10
        for thread in open_now:
            while thread.is_alive():
                # Again and again: a request that was read before its connection ended may begin to wait just now.
                self.release_waiting()
                thread.join(0.05)
                if time.monotonic() > limit:
                    raise RuntimeError(f"{thread.name} of {self.url} does not end")

    def _serve_in_thread(self, connection: socket.socket) -> None:
        thread = threading.Thread(
            target=self._serve, args=(connection,), name=f"{type(self).__name__} connection", daemon=True
        )
        with self._connections_lock:
            self._connections[thread] = connection
        thread.start()

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with connection.makefile("rb") as reader:
                for request in requests_on(reader, connection):
                    response = self.respond(request)
                    if response is None:
                        return
                    connection.sendall(encoded(response))
                    if request.headers.get("connection", "").lower() == "close":
                        return
        except (OSError, NotHttp):
            return  # The client went away, or was not one: its own concern.
        finally:
            with self._connections_lock:
                end(connection)
                del self._connections[threading.current_thread()]


class _Listener:
    """A listening socket and the thread that accepts from it."""

    def __init__(self, server: LoopbackServer) -> None:
        self._server = server
        self._socket = _bound_socket(server._port)
        self._socket.listen(128)
        self._socket.setblocking(False)
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._accept, name=f"{type(server).__name__} listener", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(self._socket, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while True:
                if any(key.fileobj is self._woken for key, _ in selector.select()):
                    return
                try:
                    connection, _ = self._socket.accept()
                except OSError:  # It went away between the two calls.
                    continue
                connection.setblocking(True)
                self._server._serve_in_thread(connection)

    def close(self) -> None:
        self._wake.close()
        self._thread.join()
        self._woken.close()
        # A forked process may have inherited the socket: closing it would not end its listening.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _bound_socket(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform != "linux":  # BSD shares a port between two sockets only so.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made
