"""A small HTTP/1.1 server on the loopback address with full control over its connections.

The standard library's server can't stop listening while it keeps its port, can't end its open connections, and can't
break a connection in the middle. Delivery tests need all three, so this module has its own accept loop. Connections
are kept alive, and each has a thread.
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

__all__ = ["LoopbackServer", "Route", "find_route", "is_loopback_host"]

# `.invalid` and `.test` are in no public name server (RFC 2606): only a proxy that a test has set leads here by them.
_LOOPBACK_HOSTS = re.compile(r"(?:127\.\d+\.\d+\.\d+|localhost|\[::1\]|[\w.-]+\.(?:invalid|localhost|test))(?::\d+)?")


@dataclass(frozen=True)
class Route:
    """One line of an endpoint table: a template such as ``/v1/project/{id}``, and the name of a method."""

    method: str
    path: str
    name: str

    def match(self, method: str, path: str) -> dict[str, str] | None:
        """The values of the template's fields; None if the request is for another route."""
        if method != self.method:
            return None
        found = re.fullmatch(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(self.path)), path)
        return found.groupdict() if found else None


def find_route(routes: Sequence[Route], request: Request) -> tuple[Route, dict[str, str]] | None:
    """The first route that matches the request, with the values of its fields."""
    for route in routes:
        fields = route.match(request.method, request.path)
        if fields is not None:
            return route, fields
    return None


def is_loopback_host(host: str) -> bool:
    """True if a ``Host`` header names the loopback address, or is missing, as in HTTP/1.0."""
    return not host or _LOOPBACK_HOSTS.fullmatch(host.lower()) is not None


class LoopbackServer:
    """Answers on ``127.0.0.1`` with :meth:`respond`, which a subclass implements. It listens from its creation.

    Args:
        start: False leaves the first :meth:`accept_connections` to the subclass.
        port: where to listen; 0 for a free port.

    Raises:
        OSError: the port is taken.

    Attributes:
        closing: set when the server closes. A :meth:`respond` that blocks must wait on it too.
    """

    def __init__(self, *, start: bool = True, port: int = 0) -> None:
        self.closing = threading.Event()
        # Bound but never listening, for the life of the server: while connections are refused, no other process
        # gets the port, and a client can't connect to itself.
        self._placeholder = _bound_socket(port)
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
        """Answer a request on the connection's own thread; None ends the connection without an answer."""
        raise NotImplementedError

    def release_waiting(self) -> None:
        """Make every waiting :meth:`respond` return, as its connection has ended."""

    def accept_connections(self) -> None:
        """Listen on the same port as before. Does nothing if the server is listening."""
        if self._listener is None:
            self._listener = _Listener(self)

    def refuse_connections(self) -> None:
        """Refuse new connections until :meth:`accept_connections`, and end those that are open."""
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self._end_connections()

    def close(self) -> None:
        """Stop. When this returns, every thread has ended and every socket is closed."""
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
                # Repeated, as a request that was already read may begin to wait now.
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
            return  # The client disconnected, or did not speak HTTP.
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
                except OSError:  # It closed between the two calls.
                    continue
                connection.setblocking(True)
                self._server._serve_in_thread(connection)

    def close(self) -> None:
        self._wake.close()
        self._thread.join()
        self._woken.close()
        # A forked process may have inherited the socket, so closing it would not stop the listening.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def _bound_socket(port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if sys.platform != "linux":  # BSD needs this option to share a port between two sockets.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    made.bind(("127.0.0.1", port))
    return made
