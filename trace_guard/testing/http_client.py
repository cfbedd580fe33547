"""An HTTP/1.1 client on a socket that records when each byte of a response arrives."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

__all__ = ["BrokenResponse", "Head", "HttpConnection", "request_bytes"]

_AT_ONCE = 1 << 16
_LONGEST_LINE = 1 << 16
_SHORTEST_WAIT = 1e-6  # A timeout of zero would make the socket non-blocking.


class BrokenResponse(ConnectionError):
    """The connection ended within a response, or the response is not valid HTTP."""


@dataclass(frozen=True)
class Head:
    """Status and headers of a response. Names are in lower case; repeated headers are joined by a comma."""

    version: str
    status: int
    headers: Mapping[str, str]

    @property
    def keeps_connection(self) -> bool:
        """False if the server will close the connection after this response."""
        tokens = self.headers.get("connection", "").lower()
        return "close" not in tokens and (self.version == "HTTP/1.1" or "keep-alive" in tokens)


def request_bytes(method: str, target: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A request as it is sent. If there is a body, a length is added."""
    names = {name.lower() for name in headers}
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if (body or method in ("POST", "PUT", "PATCH")) and "content-length" not in names:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body


class HttpConnection:
    """A connection to a local port, for one exchange after the other.

    Every method that waits raises TimeoutError at ``deadline``, on the monotonic clock. After an exception the
    connection can't be used again.

    Attributes:
        received_at: when the latest bytes arrived, on the monotonic clock.
        head_at: when the first bytes of the response arrived.
        complete: True once the last byte of the response is read.
    """

    def __init__(self, port: int, deadline: float) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), _until(deadline))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self.received_at = time.monotonic()
        self.complete = False
        self.head_at = self.received_at

    def send(self, request: bytes, deadline: float) -> None:
        """Send a request. It is not an error if the server does not read all of it: it may have answered already."""
        self.complete, self.head_at = False, 0.0
        self._socket.settimeout(_until(deadline))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.sendall(request)

    def head(self, deadline: float) -> Head:
        """The head of the final response; interim responses are skipped.

        Raises:
            BrokenResponse: there is none.
        """
        while True:
            words = self._line(deadline).decode("latin-1").split(None, 2)
            if len(words) < 2 or not words[0].startswith("HTTP/1.") or not words[1].isdigit():
                raise BrokenResponse(f"{b' '.join(word.encode('latin-1') for word in words)!r} is no HTTP response")
            headers: dict[str, str] = {}
            while line := self._line(deadline):
                name, _, value = line.decode("latin-1").partition(":")
                name, value = name.strip().lower(), value.strip()
                headers[name] = f"{headers[name]}, {value}" if name in headers else value
            if int(words[1]) >= 200:
                return Head(words[0], int(words[1]), headers)

    def body(self, method: str, head: Head, deadline: float, at_most: int | None) -> Iterator[bytes]:
        """Yield the body: chunk by chunk if it is chunked, else as it arrives, at most ``at_most`` bytes.

        Raises:
            BrokenResponse: the connection ended before the body.
        """
        if method == "HEAD" or head.status in (204, 304):
            self.complete = True
            return iter(())
        if head.headers.get("transfer-encoding", "").lower() == "chunked":
            return self._chunks(deadline, at_most)
        length = head.headers.get("content-length")
        return self._pieces(None if length is None else int(length), deadline, at_most)

    def stale(self) -> bool:
        """True if the server has closed the connection or has sent unexpected bytes."""
        return bool(self._buffer or select.select([self._socket], [], [], 0)[0])

    def close(self) -> None:
        self._socket.close()

    def _chunks(self, deadline: float, at_most: int | None) -> Iterator[bytes]:
        while at_most != 0:
            size = _chunk_size(self._line(deadline))
            if size == 0:
                while self._line(deadline):
                    pass  # Trailers.
                self.complete = True
                return
            wanted = size if at_most is None else min(size, at_most)
            data = self._exactly(wanted, deadline)
            if at_most is None or wanted < at_most:
                self._line(deadline)
            at_most = None if at_most is None else at_most - wanted
            yield data

    def _pieces(self, length: int | None, deadline: float, at_most: int | None) -> Iterator[bytes]:
        self.complete = length == 0
        while length != 0 and at_most != 0:
            if not self._buffer and not self._receive(deadline):
                if length is None:  # The body ends with the connection.
                    self.complete = True
                    return
                raise BrokenResponse(f"the connection ended {length} bytes before the body")
            limits = [len(self._buffer), *(limit for limit in (length, at_most) if limit is not None)]
            data = self._take(min(limits))
            at_most = None if at_most is None else at_most - len(data)
            length = None if length is None else length - len(data)
            self.complete = length == 0
            yield data

    def _line(self, deadline: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > _LONGEST_LINE or not self._receive(deadline):
                raise BrokenResponse("the connection ended inside a response")
        return self._take(end + 1).rstrip(b"\r\n")

    def _exactly(self, size: int, deadline: float) -> bytes:
        while len(self._buffer) < size:
            if not self._receive(deadline):
                raise BrokenResponse(f"the connection ended {size - len(self._buffer)} bytes before a chunk")
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _receive(self, deadline: float) -> bool:
        self._socket.settimeout(_until(deadline))
        data = self._socket.recv(_AT_ONCE)
        self.received_at = time.monotonic()
        self.head_at = self.head_at or self.received_at
        self._buffer += data
        return bool(data)


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";")[0], 16)
    except ValueError as error:
        raise BrokenResponse(f"{line!r} is not the size of a chunk") from error


def _until(deadline: float) -> float:
    return max(deadline - time.monotonic(), _SHORTEST_WAIT)
