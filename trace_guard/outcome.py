"""How an invocation ended, when its rows are to be delivered, and what came of that."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from .outside_text import printable

__all__ = ["ClosedBy", "Delivery", "FlushPolicy", "Outcome", "Verdict", "Way"]


class Outcome(enum.Enum):
    """How a guarded unit of work ended; the value stands in ``metadata.trace_guard.outcome``."""

    OK = "ok"
    ERROR = "error"
    TIMED_OUT = "timed_out"
    TERMINATED = "terminated"
    """Ended by a signal."""
    ABANDONED = "abandoned"
    """The process died, and its end was found out later."""


class ClosedBy(enum.Enum):
    """Who closed a span that its own code left open; stands in ``metadata.trace_guard.closed_by``."""

    GUARD = "guard"
    WATCHDOG = "watchdog"
    RECOVERY = "recovery"
    REAPER = "reaper"
    SUPERVISOR = "supervisor"


class FlushPolicy(enum.Enum):
    """When the rows of an invocation are delivered."""

    AUTO = "auto"
    """The best that the platform allows."""
    BEFORE_RESPONSE = "before-response"
    """The response waits for the delivery, at most ``flush_timeout`` seconds."""
    AFTER_RESPONSE = "after-response"
    """The response does not wait. Only where the process goes on running after it."""


class Verdict(enum.Enum):
    """Where the rows of an invocation are."""

    DELIVERED = "delivered"
    """Acknowledged by the backend, to the last row, and with every attachment of the trace."""
    DEFERRED = "deferred"
    """In the journal; they will be sent after the response."""
    SPOOLED = "spooled"
    """Safe in the journal on disk; the backend did not take them, or an attachment of theirs, in time."""
    REFUSED = "refused"
    """The backend refused some for good, which are kept as dead letters, or an attachment can't be had."""
    LOST = "lost"
    """Not on disk and not delivered in time: no directory could be used, or the journal is full."""


class Way(str, enum.Enum):
    """How the rows of an invocation are delivered."""

    BEFORE_RESPONSE = "before-response"
    BACKGROUND = "background"
    """By the process's own threads, which go on after the response."""
    INTERNAL_EXTENSION = "internal-extension"
    """AWS Lambda: by a thread for which the freeze waits."""
    EXTERNAL_EXTENSION = "external-extension"
    """AWS Lambda: by the layer's own process."""
    BEFORE_NEXT_EVENT = "before-next-event"
    """AWS Lambda: between the response and the request for the next event."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Delivery:
    """What came of the rows of one invocation.

    Attributes:
        verdict: where the rows are now; its members are reachable as ``Delivery.DELIVERED`` and so on.
        rows: how many rows the invocation added to the journal.
        seconds: how long the caller waited for the verdict.
        error: why it is not ``DELIVERED``, in words, or None; one printable line without credentials.
        way: how it is delivered; None if that is not known.
    """

    verdict: Verdict
    rows: int = 0
    seconds: float = 0.0
    error: str | None = None
    way: Way | None = None

    def __post_init__(self) -> None:
        if self.error is not None:
            object.__setattr__(self, "error", printable(self.error))

    DELIVERED: ClassVar[Verdict] = Verdict.DELIVERED
    DEFERRED: ClassVar[Verdict] = Verdict.DEFERRED
    SPOOLED: ClassVar[Verdict] = Verdict.SPOOLED
    REFUSED: ClassVar[Verdict] = Verdict.REFUSED
    LOST: ClassVar[Verdict] = Verdict.LOST
