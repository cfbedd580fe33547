"""One HTTP exchange whose response is read as it arrives."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping

from .connection_pool import ConnectionPool
from .http_client import Head, HttpConnection
from .http_response import Chunk, HttpResponse, ResponseEnd

__all__ = ["ResponseStream"]

# The service's answers if the server has not answered: https://cloud.google.com/run/docs/troubleshooting
_IN_PLACE_OF_A_RESPONSE: Mapping[ResponseEnd, tuple[int, bytes]] = {
    "timed_out": (504, b"upstream request timeout"),
    "connection_lost": (503, b"malformed response or connection to the instance had an error"),
    "client_gone": (499, b""),
}


class ResponseStream:
    """A response, to be iterated over its :class:`.Chunk`\\ s as they arrive.

    Chunks are read on demand: slow iteration simulates a slow client, and closing before the end simulates a client
    that disconnects. After the end :meth:`response` returns the result.

    Args:
        timeout: seconds that the service allows, from now on.
        patience: seconds after which the client goes away by itself.
        read_at_most: bytes of the body after which the client goes away.
        over: called once, as soon as the request is not in flight any more.
    """

    def __init__(
        self,
        method: str,
        *,
        timeout: float,
        patience: float | None,
        read_at_most: int | None,
        pool: ConnectionPool,
        over: Callable[[], None],
    ) -> None:
        self._method, self._read_at_most = method, read_at_most
        self._pool, self._over = pool, over
        self._sent_at, self._started = time.time(), time.monotonic()
        limits: list[tuple[float, ResponseEnd]] = [(timeout, "timed_out")]
        if patience is not None:
            limits.append((patience, "client_gone"))
        seconds, self._end_at_deadline = min(limits)
        self._deadline = self._started + seconds
        self._connection: HttpConnection | None = None
        self._head: Head | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._chunks: list[Chunk] = []
        self._first_byte_seconds: float | None = None
        self._last_byte_seconds = 0.0
        self._end: ResponseEnd | None = None

    @property
    def status(self) -> int:
        """See :class:`.HttpResponse`."""
        return self._status_and_text()[0]

    @property
    def headers(self) -> Mapping[str, str]:
        """Names are in lower case; repeated headers are joined by a comma."""
        return self._head.headers if self._head else {}

    def begin(self, request: bytes) -> None:
        """Send the request and wait for the head of the response."""
        try:
            self._connection = self._pool.take(self._deadline)
            self._connection.send(request, self._deadline)
            self._head = self._connection.head(self._deadline)
            self._first_byte_seconds = self._connection.head_at - self._started
            self._pieces = self._connection.body(self._method, self._head, self._deadline, self._read_at_most)
        except TimeoutError:
            self._finish(self._end_at_deadline)
        except (OSError, ValueError):
            self._finish("connection_lost")
        else:
            if self._connection.complete:
                self._finish("complete")

    def __iter__(self) -> ResponseStream:
        return self

    def __next__(self) -> Chunk:
        if self._connection is None or self._end is not None:
            raise StopIteration
        try:
            data = next(self._pieces, None)
        except TimeoutError:
            self._finish(self._end_at_deadline)
            raise StopIteration from None
        except OSError:
            self._finish("connection_lost")
            raise StopIteration from None
        if data is not None:
            self._chunks.append(Chunk(data, self._connection.received_at - self._started))
        if self._connection.complete:
            self._finish("complete")
        elif data is None:
            self._finish("client_gone")
        if data is None:
            raise StopIteration
        return self._chunks[-1]

    def close(self) -> None:
        """Disconnect. Does nothing after the end."""
        if self._end is None:
            self._finish("client_gone")

    def response(self) -> HttpResponse:
        """The result of the exchange.

        Raises:
            RuntimeError: it is not over.
        """
        if self._end is None:
            raise RuntimeError("the response is not over: read it to its end, or close it")
        status, text = self._status_and_text()
        return HttpResponse(
            status=status,
            headers=self.headers,
            chunks=(Chunk(text, self._last_byte_seconds),) if text else tuple(self._chunks),
            end=self._end,
            sent_at=self._sent_at,
            ended_at=self._sent_at + self._last_byte_seconds,
            first_byte_seconds=self._first_byte_seconds,
            last_byte_seconds=self._last_byte_seconds,
        )

    def _status_and_text(self) -> tuple[int, bytes]:
        if self._head is not None or self._end is None:
            return self._head.status if self._head else 0, b""
        return _IN_PLACE_OF_A_RESPONSE[self._end]

    def _finish(self, end: ResponseEnd) -> None:
        connection, head = self._connection, self._head
        received = end == "complete" and connection is not None
        if connection is not None and not received:
            connection.close()
        ended = connection.received_at if connection is not None and received else time.monotonic()
        self._end = end
        self._last_byte_seconds = ended - self._started
        # Done first, as the server must not run longer than it does on the service.
        self._over()
        if connection is not None and received:
            if head is not None and head.keeps_connection:
                self._pool.park(connection)
            else:
                connection.close()
