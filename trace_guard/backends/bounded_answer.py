"""HTTP answers that end: whatever a server sends, reading takes so many bytes and so much time, and no more.

``http.client`` bounds a single line and, with a socket's timeout, a single ``recv``. A server that sends one byte a
second, ``100 Continue`` or chunks for ever stays within both. So the bound is put below all parsing, at the one
place where bytes are read.
"""

from __future__ import annotations

import http.client
import io
import zlib
from typing import Any

from ..deadline import Deadline

__all__ = ["MOST_BYTES", "AnswerTooLong", "Bound", "BoundedAnswer", "inflated"]

MOST_BYTES = 1024 * 1024
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class AnswerTooLong(Exception):
    """An answer has more bytes than are read.

    Not an ``HTTPException`` nor an ``OSError``, which urllib3 takes for a connection that broke.
    """

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the answer is longer than {most_bytes} bytes")


class Bound:
    """What one exchange may take.

    Args:
        deadline: when it must be over.
        most_bytes: how much of the answer is read, status line and headers included.
        once_begun: seconds that the answer may take from its first byte on.
    """

    def __init__(
        self, deadline: Deadline, most_bytes: int = MOST_BYTES, *, once_begun: float | None = None
    ) -> None:
        self._deadline = deadline
        self._most_bytes = self._left = most_bytes
        self._once_begun = once_begun

    @property
    def timeout(self) -> float | None:
        """The seconds left, for ``settimeout``; None without a deadline.

        Raises:
            TimeoutError: none are left.
        """
        left = self._deadline.remaining
        if left <= 0:
            raise TimeoutError("the exchange took too long")
        return None if left == float("inf") else left

    @property
    def bytes_left(self) -> int:
        """The bytes that may still be read.

        Raises:
            AnswerTooLong: none.
        """
        if self._left <= 0:
            raise AnswerTooLong(self._most_bytes)
        return self._left

    def received(self, count: int) -> None:
        """Count bytes of the answer."""
        self._left -= count
        if self._once_begun is not None:
            self._deadline = self._deadline.capped(self._once_begun)
            self._once_begun = None


class BoundedAnswer(http.client.HTTPResponse):
    """The response class of a connection: every byte of the answer is read within the bound."""

    def __init__(self, sock: Any, *args: Any, bound: Bound, **keywords: Any) -> None:
        super().__init__(sock, *args, **keywords)
        self.fp: Any = io.BufferedReader(_Reader(self.fp.detach(), sock, bound))

    def begin(self) -> None:
        """Read the head. urllib3 would log what of it is malformed as a warning, beside the URL with its signature."""
        super().begin()
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Reader(io.RawIOBase):
    """Reads from a socket's own reader, as long as the bound lasts."""

    def __init__(self, raw: io.RawIOBase, sock: Any, bound: Bound) -> None:
        self._raw = raw
        self._sock = sock
        self._bound = bound

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        most = self._bound.bytes_left
        self._sock.settimeout(self._bound.timeout)
        count: int = self._raw.readinto(memoryview(buffer)[:most])
        self._bound.received(count)
        return count

    def close(self) -> None:
        if not self.closed:
            self._raw.close()
        super().close()


def inflated(body: bytes, encoding: str, most_bytes: int = MOST_BYTES) -> bytes:
    """The content of a body that was compressed although nobody had asked for that.

    Args:
        encoding: the ``Content-Encoding``. With another one than ``gzip`` or ``deflate`` the body is left as it is.

    Raises:
        AnswerTooLong: it has more content than ``most_bytes``.
    """
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return body
    stream = zlib.decompressobj(_GZIP_OR_ZLIB)
    try:
        content = stream.decompress(body, most_bytes)
    except zlib.error:
        return body
    if stream.unconsumed_tail:
        raise AnswerTooLong(most_bytes)
    return content
