"""The faults between a client and Braintrust, for :meth:`BraintrustServer.fail`."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..rows import Row
from .http_wire import Request, Response

__all__ = ["Exchange", "Fault", "Faults"]


@dataclass(frozen=True)
class Exchange:
    """A request that is being answered.

    Attributes:
        rows: the rows in its body.
        answer: handles the request without a fault: stores its rows and returns the answer.
        over: set when the fault is healed or the server closes. Faults that wait, wait on this.
    """

    request: Request
    rows: Sequence[Row]
    answer: Callable[[], Response]
    over: threading.Event


@dataclass(frozen=True)
class Fault:
    """One kind of failure. Create it with a class method, or with ``Fault("name", injure)``.

    Attributes:
        name: for ``repr`` and messages.
        injure: takes the :class:`Exchange` and returns the answer; None ends the connection without one.
        applies: decides by their rows which requests fail; by default all do.
    """

    name: str
    injure: Callable[[Exchange], Response | None] = field(repr=False)
    applies: Callable[[Sequence[Row]], bool] = field(default=lambda rows: True, repr=False)

    @classmethod
    def status(cls, code: int, retry_after: float | str | None = None) -> Fault:
        """Answer with this HTTP status, and store nothing.

        Args:
            retry_after: the ``Retry-After`` header, in seconds or as an HTTP date.
        """
        headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

        def injure(exchange: Exchange) -> Response:
            return Response.json({"error": f"injected status {code}"}, code, headers)

        return cls(f"status {code}", injure)

    @classmethod
    def slow(cls, seconds: float) -> Fault:
        """Wait, then answer normally, so that the rows are stored late. Healing and closing end the wait."""

        def injure(exchange: Exchange) -> Response:
            exchange.over.wait(seconds)
            return exchange.answer()

        return cls(f"slow by {seconds:g} s", injure)

    @classmethod
    def black_hole(cls) -> Fault:
        """Accept the request, but neither store nor answer it. When healed, the connection ends without an answer."""

        def injure(exchange: Exchange) -> None:
            exchange.over.wait()

        return cls("black hole", injure)

    @classmethod
    def reset(cls) -> Fault:
        """Reset the connection (a TCP RST), and store nothing."""

        def injure(exchange: Exchange) -> None:
            exchange.request.reset_connection()

        return cls("reset", injure)

    @classmethod
    def ingest_then_drop(cls) -> Fault:
        """Store the rows, then end the connection. The client sees a failure although the rows are stored."""

        def injure(exchange: Exchange) -> None:
            exchange.answer()

        return cls("ingest, then drop", injure)

    @classmethod
    def refuse_rows(cls, predicate: Callable[[Row], Any], status: int = 400) -> Fault:
        """Answer with this status and store nothing, if ``predicate`` is true for any row of the request."""
        refusal = cls.status(status)
        return cls(f"refuse rows with {status}", refusal.injure, lambda rows: any(map(predicate, rows)))


@dataclass
class _Planned:
    endpoint: str
    fault: Fault
    left: float
    over: threading.Event = field(default_factory=threading.Event)


class Faults:
    """The planned faults, each for one endpoint or for all (``*``), in order."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Used-up faults stay until they are healed, as requests may still wait in them.
        self._planned: list[_Planned] = []

    def add(self, endpoint: str, fault: Fault, times: int | None) -> None:
        if times is not None and times < 1:
            raise ValueError(f"times must be at least 1, or None for ever; it is {times}")
        with self._lock:
            self._planned.append(_Planned(endpoint, fault, math.inf if times is None else times))

    def take(self, endpoint: str, rows: Sequence[Row]) -> tuple[Fault, threading.Event] | None:
        """The fault for this request, which uses up one of its times, and the event of its end."""
        with self._lock:
            for planned in self._planned:
                if planned.left and planned.endpoint in (endpoint, "*") and planned.fault.applies(rows):
                    planned.left -= 1
                    return planned.fault, planned.over
        return None

    def heal(self, endpoint: str | None = None) -> None:
        """Remove the faults of one endpoint, or all, and release the requests that wait in them."""
        with self._lock:
            for planned in list(self._planned):
                if endpoint in (None, planned.endpoint):
                    planned.over.set()
                    self._planned.remove(planned)

    def release(self) -> None:
        """Release the requests that wait in a fault, which stays in force."""
        with self._lock:
            for planned in self._planned:
                planned.over.set()
                planned.over = threading.Event()
