"""A response as the client received it, with times."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias

__all__ = ["Chunk", "HttpResponse", "ResponseEnd"]

ResponseEnd: TypeAlias = Literal["complete", "client_gone", "timed_out", "connection_lost"]


class Chunk(NamedTuple):
    """A part of a body: one chunk of a chunked body, else the bytes that arrived together.

    Attributes:
        seconds: from sending the request to the arrival.
    """

    data: bytes
    seconds: float


@dataclass(frozen=True)
class HttpResponse:
    """What came of one request. Lengths are in seconds, points in time in seconds since the epoch.

    Attributes:
        status: the server's. Where it has sent none, the service's own: 504, the request's time was over; 503,
            the connection broke; 499, the client did not wait.
        headers: names are in lower case; repeated headers are joined by a comma.
        end: ``complete``: to the last byte; ``client_gone``: the client left before; ``timed_out``: the service
            ended it; ``connection_lost``: the server did, or died.
        sent_at: when the request was sent, and the server got the CPU for it.
        ended_at: when the last byte was there, or whatever else ended it; the CPU is the server's no longer.
        first_byte_seconds: from the sending to the first byte of the response; None if there was no response.
        last_byte_seconds: from the sending to the end.
    """

    status: int
    headers: Mapping[str, str]
    chunks: Sequence[Chunk] = field(repr=False)
    end: ResponseEnd
    sent_at: float
    ended_at: float
    first_byte_seconds: float | None
    last_byte_seconds: float

    @property
    def body(self) -> bytes:
        """The bytes of all chunks."""
        return b"".join(chunk.data for chunk in self.chunks)

    @property
    def text(self) -> str:
        """The body read as UTF-8. Invalid bytes are replaced."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body's value.

        Raises:
            ValueError: it is not JSON.
        """
        return json.loads(self.body)
