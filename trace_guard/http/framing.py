"""Finds the end of a response on the wire. After its last byte, the platform may take the CPU away.

With a Content-Length, the response ends with the chunk that completes it. Without one, it ends with the bytes that the
server sends after the last chunk. A response that may not have a body ends with its headers.

https://cloud.google.com/run/docs/configuring/billing-settings: CPU "only during request processing".
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Framing"]


class Framing:
    """Counts the bytes of a response.

    Args:
        method: of the request. The response to HEAD has no body.
        length: the Content-Length; None without one.

    Attributes:
        is_bodyless: True if the response ends with its headers.
    """

    def __init__(self, method: str = "GET", length: int | None = None) -> None:
        self.is_bodyless = self._is_head = method.upper() == "HEAD"
        self._length = length
        self._sent = 0

    def begin(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """Set the status and the headers. A later call replaces them."""
        self._length = None
        for name, value in headers:
            if name.lower() == "content-length" and value.strip().isdecimal():
                self._length = int(value)
        # https://www.rfc-editor.org/rfc/rfc9110#section-6.4.1
        self.is_bodyless = self._is_head or status in (204, 304) or 100 <= status < 200

    @property
    def is_complete(self) -> bool:
        """True once the last byte has been sent."""
        return self.is_bodyless or (self._length is not None and self._sent >= self._length)

    def completes(self, chunk: bytes | str) -> bool:
        """Count a chunk. Returns True if it completes the response."""
        if self._length is not None:  # else a chunk may not be bytes yet: the framework encodes what users yield
            self._sent += len(chunk.encode() if isinstance(chunk, str) else chunk)
        return self.is_complete
