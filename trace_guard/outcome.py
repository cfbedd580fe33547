"""Enums and results: how an invocation ended, when and how its rows are delivered, and where they are now."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import ClassVar

from .redaction.outside_text import printable

__all__ = ["ClosedBy", "Delivery", "FlushPolicy", "Outcome", "Verdict", "Way"]


class Outcome(enum.Enum):
    """How a guarded unit of work ended. The value is logged as ``metadata.trace_guard.outcome``."""

    OK = "ok"
    ERROR = "error"
    TIMED_OUT = "timed_out"
    TERMINATED = "terminated"
    """A signal ended it."""
    ABANDONED = "abandoned"
    """The process died, and recovery closed it later."""


class ClosedBy(enum.Enum):
    """What closed a span that its own code left open. The value is logged as ``metadata.trace_guard.closed_by``."""

    GUARD = "guard"
    WATCHDOG = "watchdog"
    RECOVERY = "recovery"
    SUPERVISOR = "supervisor"
    REAPER = "reaper"


class FlushPolicy(enum.Enum):
    """When the rows of an invocation are delivered."""

    AUTO = "auto"
    """The best policy that the platform allows."""
    BEFORE_RESPONSE = "before-response"
    """The response waits for the delivery, for at most ``flush_timeout`` seconds."""
    AFTER_RESPONSE = "after-response"
    """The response does not wait. Works only where the process keeps running after the response."""


class Verdict(enum.Enum):
    """Where the rows of an invocation are now."""

    DELIVERED = "delivered"
    """The backend has acknowledged all rows and all attachments of the trace."""
    DEFERRED = "deferred"
    """The rows are in the journal and will be sent after the response."""
    SPOOLED = "spooled"
    """The rows are safe in the journal on disk. The backend did not accept all rows and attachments in time."""
    REFUSED = "refused"
    """The backend refused some rows for good, and they are kept as dead letters; or an attachment is unavailable."""
    LOST = "lost"
    """Not delivered in time and not on disk, because no directory is usable or the journal is full."""


class Way(str, enum.Enum):
    """How the rows of an invocation are delivered."""

    BEFORE_RESPONSE = "before-response"
    BACKGROUND = "background"
    """By threads of this process, which keep running after the response."""
    INTERNAL_EXTENSION = "internal-extension"
    """AWS Lambda: by an internal extension, a thread that the freeze waits for."""
    EXTERNAL_EXTENSION = "external-extension"
    """AWS Lambda: by an external extension, the process of the layer."""
    BEFORE_NEXT_EVENT = "before-next-event"
    """AWS Lambda: between the response and the request for the next event."""

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Delivery:
    """The result of delivering the rows of one invocation.

    Attributes:
        verdict: where the rows are now. The members are also available as ``Delivery.DELIVERED`` and so on.
        rows: the number of rows that the invocation added to the journal.
        seconds: how long the caller waited.
        error: why the verdict is not ``DELIVERED``, as one printable line without credentials; or None.
        way: how the rows are delivered; None if that is not known.
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
