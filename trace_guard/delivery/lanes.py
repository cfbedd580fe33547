"""The bookkeeping of row delivery: the journals, the part of each in a batch, and the requests in flight.

These are plain classes because every dataclass adds a third of a millisecond to a cold start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..journal.base import Journal
    from ..journal.format import Position
    from ..rows import Row
    from .batch import Batch

__all__ = ["OTHER_PROCESS_PAUSE", "OTHER_PROCESS_SECONDS", "BatchSlice", "JournalCursor", "Request"]

OTHER_PROCESS_PAUSE = 0.05
"""The pause before a journal that another process delivers from is tried again."""

OTHER_PROCESS_SECONDS = 2.0
"""How long to wait for another process to finish delivering."""


class JournalCursor:
    """A journal, and how far it has been delivered.

    Attributes:
        position: the rows before it have been put into batches.
        first: rows to send before all others: the ends of spans whose payloads follow later.
        orphan: nobody writes to the journal any more. It is closed once it is delivered.
        retired: this process wrote to the journal, and writes to another one now.
        due: when rows are to be sent, on the monotonic clock; None if nobody has asked for it.
        delivered_slices: slices that were delivered while one before them was not.
        requests: how many requests in flight carry rows of the journal.
        taken_elsewhere: another process delivers from the journal.
        read_error: why the last attempt to read the journal failed, or None.
        read_failures: how many attempts to read it have failed.
        lost: the journal's ``lost`` when deliveries were last warned of it.
        limit: rows behind this position are not sent; None for no limit.
    """

    def __init__(self, journal: Journal, first: list[Row], *, orphan: bool = False) -> None:
        self.journal = journal
        self.position = journal.acked
        self.first = first
        self.orphan = orphan
        self.retired = False
        self.due: float | None = None
        self.delivered_slices: list[BatchSlice] = []
        self.requests = 0
        self.taken_elsewhere = False
        self.read_error: str | None = None
        self.read_failures = 0
        self.lost: Position | None = None
        self.limit: Position | None = None

    @property
    def end(self) -> Position:
        """The position up to which rows are to be delivered."""
        return self.journal.end if self.limit is None else min(self.limit, self.journal.end)

    @property
    def idle(self) -> bool:
        """True if no row is left to be put into a batch, and no request is in flight."""
        return self.position >= self.end and not self.requests and not self.first

    @property
    def delivered(self) -> bool:
        """True if every row has been acknowledged."""
        return self.journal.acked >= self.end and not self.first and not self.requests


class BatchSlice:
    """The entries of one journal in one batch.

    Attributes:
        start, end: the positions around the entries.
        first: rows that are sent before the entries.
        resend: an earlier request failed, so this slice is sent again even if its own request succeeds.
    """

    def __init__(self, cursor: JournalCursor) -> None:
        self.cursor = cursor
        self.start = self.end = cursor.position
        self.first: list[Row] = []
        self.resend = False

    def __bool__(self) -> bool:
        """False if the slice is empty."""
        return bool(self.first) or self.end > self.start


class Request:
    """A batch in flight.

    Attributes:
        timed_out: somebody waited in vain for it, and the breaker has counted that as a failure.
    """

    def __init__(self, batch: Batch, slices: list[BatchSlice]) -> None:
        self.batch = batch
        self.slices = slices
        self.timed_out = False
