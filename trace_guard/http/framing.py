"""Where on the wire a response ends: from its last byte on, the platform may take the CPU away.

With a Content-Length the last byte leaves with the chunk that completes it; without, with what the server sends after
the last chunk; and a response that may have no body is complete with its headers.

https://cloud.google.com/run/docs/configuring/billing-settings: CPU "only during request processing".
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["Framing"]


class Framing:
    """Counts a response's bytes.

    Args:
        method: of the request; the response to HEAD has no body.
        length: its Content-Length, None if it has none.

    Attributes:
        is_bodyless: it ends with its headers, whatever else is sent.
    """

    def __init__(self, method: str = "GET", length: int | None = None) -> None:
        self.is_bodyless = self._is_head = method.upper() == "HEAD"
        self._length = length
        self._sent = 0

    def begin(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """The status and the headers are known; those of a later call replace them."""
        self._length = None
        for name, value in headers:
            if name.lower() == "content-length" and value.strip().isdecimal():
                self._length = int(value)
        # https://www.rfc-editor.org/rfc/rfc9110#section-6.4.1
        self.is_bodyless = self._is_head or status in (204, 304) or 100 <= status < 200

    @property
    def is_complete(self) -> bool:
        """True once nothing more follows on the wire."""
        return self.is_bodyless or (self._length is not None and self._sent >= self._length)

    def completes(self, chunk: bytes | str) -> bool:
        """Count a chunk; True if the response is complete with it."""
        if self._length is not None:  # else they need not be bytes yet: frameworks make those of what users yield
            self._sent += len(chunk.encode() if isinstance(chunk, str) else chunk)
        return self.is_complete
