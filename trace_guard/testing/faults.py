"""What can go wrong between a client and Braintrust, for :meth:`BraintrustServer.fail`."""

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
    """One request while it is being answered.

    Attributes:
        rows: the rows in its body; empty if there are none.
        answer: handles the request as if nothing were wrong: stores its rows, and returns the answer.
        over: set when the fault is healed or the server closes; a fault that waits, waits on this.
    """

    request: Request
    rows: Sequence[Row]
    answer: Callable[[], Response]
    over: threading.Event


@dataclass(frozen=True)
class Fault:
    """One way to go wrong. Made by the class methods; another is ``Fault("name", injure)``.

    Attributes:
        name: for ``repr`` and messages.
        injure: takes the :class:`Exchange`, returns what is answered; None ends the connection unanswered.
        applies: which requests it befalls, by their rows; all by default.
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
        """Wait, then answer as usual: the rows land late. Healing and closing end the wait."""

        def injure(exchange: Exchange) -> Response:
            exchange.over.wait(seconds)
            return exchange.answer()

        return cls(f"slow by {seconds:g} s", injure)

    @classmethod
    def black_hole(cls) -> Fault:
        """Take the request and never answer, nor store it. When healed, the connection ends unanswered."""

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
        """Store the rows, then end the connection: to the client this looks like a failure, and is none."""

        def injure(exchange: Exchange) -> None:
            exchange.answer()

        return cls("ingest, then drop", injure)

    @classmethod
    def refuse_rows(cls, predicate: Callable[[Row], Any], status: int = 400) -> Fault:
        """Answer with this status, and store nothing, if ``predicate`` is true of any row in the request."""
        refusal = cls.status(status)
        return cls(f"refuse rows with {status}", refusal.injure, lambda rows: any(map(predicate, rows)))


@dataclass
class _Planned:
    endpoint: str
    fault: Fault
    left: float
    over: threading.Event = field(default_factory=threading.Event)


class Faults:
    """The faults to come, each for one endpoint or for all (``*``), in the order of their planning."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # Those that are used up stay until healed: requests may still wait in them.
        self._planned: list[_Planned] = []

    def add(self, endpoint: str, fault: Fault, times: int | None) -> None:
        if times is not None and times < 1:
            raise ValueError(f"times must be at least 1, or None for ever; it is {times}")
        with self._lock:
            self._planned.append(_Planned(endpoint, fault, math.inf if times is None else times))

    def take(self, endpoint: str, rows: Sequence[Row]) -> tuple[Fault, threading.Event] | None:
        """The fault that befalls this request, which counts as one of its times, and the event of its end."""
        with self._lock:
            for planned in self._planned:
                if planned.left and planned.endpoint in (endpoint, "*") and planned.fault.applies(rows):
                    planned.left -= 1
                    return planned.fault, planned.over
        return None

    def heal(self, endpoint: str | None = None) -> None:
        """Forget the faults of one endpoint, or all, and release the requests that wait in them."""
        with self._lock:
            for planned in list(self._planned):
                if endpoint in (None, planned.endpoint):
                    planned.over.set()
                    self._planned.remove(planned)

    def release(self) -> None:
        """Release the requests that wait in a fault; it stays in force for those to come."""
        with self._lock:
            for planned in self._planned:
                planned.over.set()
                planned.over = threading.Event()
