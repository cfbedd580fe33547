"""Bounds HTTP answers: whatever a server sends, reading takes a limited number of bytes and a limited time.

``http.client`` limits the length of a line, and a socket's timeout limits one ``recv``. A server that sends one byte
a second, or ``100 Continue`` or chunks for ever, stays within both. So the bound is applied below all parsing, where
bytes are read.
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
    """An answer has more bytes than the limit.

    It is neither an ``HTTPException`` nor an ``OSError``, which urllib3 would treat as a broken connection.
    """

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the answer is longer than {most_bytes} bytes")


class Bound:
    """The limits of one exchange.

    Args:
        deadline: when the exchange must be over.
        most_bytes: the most bytes of the answer, including status line and headers.
        once_begun: the most seconds from the first byte of the answer to the last.
    """

    def __init__(
        self, deadline: Deadline, most_bytes: int = MOST_BYTES, *, once_begun: float | None = None
    ) -> None:
        self._deadline = deadline
        self._most_bytes = self._left = most_bytes
        self._once_begun = once_begun

    @property
    def timeout(self) -> float | None:
        """The remaining seconds, for ``settimeout``; None without a deadline.

        Raises:
            TimeoutError: no time is left.
        """
        left = self._deadline.remaining
        if left <= 0:
            raise TimeoutError("the exchange took too long")
        return None if left == float("inf") else left

    @property
    def bytes_left(self) -> int:
        """The number of bytes that may still be read.

        Raises:
            AnswerTooLong: none.
        """
        if self._left <= 0:
            raise AnswerTooLong(self._most_bytes)
        return self._left

    def received(self, count: int) -> None:
        """Count received bytes."""
        self._left -= count
        if self._once_begun is not None:
            self._deadline = self._deadline.capped(self._once_begun)
            self._once_begun = None


class BoundedAnswer(http.client.HTTPResponse):
    """The response class of bounded connections: every byte is read within the bound."""

    def __init__(self, sock: Any, *args: Any, bound: Bound, **keywords: Any) -> None:
        super().__init__(sock, *args, **keywords)
        self.fp: Any = io.BufferedReader(_Reader(self.fp.detach(), sock, bound))

    def begin(self) -> None:
        """Read the head. urllib3 would log malformed headers as a warning, together with the URL and its signature."""
        super().begin()
        self.msg.defects.clear()
        self.msg.set_payload("")


class _Reader(io.RawIOBase):
    """Reads from a socket's reader within the bound."""

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
    """The content of a body that was compressed without being asked for.

    Args:
        encoding: the ``Content-Encoding``. Encodings other than ``gzip`` and ``deflate`` are left as they are.

    Raises:
        AnswerTooLong: the content is longer than ``most_bytes``.
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
