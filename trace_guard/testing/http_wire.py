"""HTTP/1.1 on a socket: reads requests and writes responses."""

from __future__ import annotations

import contextlib
import email.utils
import http
import json
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO
from urllib.parse import urlsplit

__all__ = ["NotHttp", "Request", "Response", "encoded", "end", "requests_on"]

_LONGEST_LINE = 1 << 20
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@dataclass(frozen=True)
class Request:
    """A complete request. Header names are in lower case; ``path`` has no query."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    connection: socket.socket = field(repr=False, compare=False)

    def reset_connection(self) -> None:
        """Make the connection end in a RST instead of a FIN, once it is closed."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)


@dataclass(frozen=True)
class Response:
    """A response. Its length is added when it is sent."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def json(cls, value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """``value`` as a JSON body."""
        return cls(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})


class NotHttp(Exception):
    """The received bytes are not an HTTP request."""


def end(connection: socket.socket) -> None:
    """Close a connection, also for forked processes that inherited it; with a RST if that was requested."""
    # A shutdown would send a FIN instead of a RST.
    if connection.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(_RESET_ON_CLOSE)) != _RESET_ON_CLOSE:
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    connection.close()


def requests_on(reader: BinaryIO, connection: socket.socket) -> Iterator[Request]:
    """The requests on a connection, until it ends.

    Raises:
        NotHttp: other bytes arrived, or the connection ended within a body.
    """
    while line := reader.readline(_LONGEST_LINE):
        words = line.decode("latin-1").split()
        if len(words) != 3 or not words[2].startswith("HTTP/1."):
            raise NotHttp(line)
        method, target, version = words
        headers = _headers(reader)
        if version == "HTTP/1.0":
            headers.setdefault("connection", "close")
        if headers.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        parts = urlsplit(target)
        yield Request(method, parts.path, parts.query, headers, _body(reader, headers), connection)


def _headers(reader: BinaryIO) -> dict[str, str]:
    headers: dict[str, str] = {}
    while line := reader.readline(_LONGEST_LINE).strip():
        name, _, value = line.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _body(reader: BinaryIO, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return _exactly(reader, int(headers.get("content-length") or 0))
    chunks: list[bytes] = []
    while size := int(reader.readline(_LONGEST_LINE).split(b";")[0] or b"0", 16):
        chunks.append(_exactly(reader, size))
        reader.readline(_LONGEST_LINE)
    _headers(reader)  # Trailers, up to the empty line.
    return b"".join(chunks)


def _exactly(reader: BinaryIO, size: int) -> bytes:
    body = reader.read(size)
    if len(body) < size:
        raise NotHttp(f"the connection ended {size - len(body)} bytes before the body")
    return body


def encoded(response: Response) -> bytes:
    """A response as it is sent."""
    try:
        phrase = http.HTTPStatus(response.status).phrase
    except ValueError:
        phrase = "Unknown"
    headers: dict[str, Any] = {**response.headers, "Content-Length": len(response.body)}
    headers.setdefault("Date", email.utils.formatdate(usegmt=True))
    lines = [f"HTTP/1.1 {response.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + response.body
