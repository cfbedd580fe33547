"""What the courier keeps track of: where rows come from, which of them a request carries, and the requests under way.

Written out and not dataclasses, as each of those takes a third of a millisecond of every cold start.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..journal.format import Position
    from ..journal.journal import Journal
    from ..rows import Row
    from .batch import Batch

__all__ = ["Flight", "Run", "Source"]


class Source:
    """A journal to deliver from.

    Attributes:
        cursor: how far its rows have been taken into batches.
        first: rows to send ahead of all others: the ends of spans whose payloads come later.
        orphan: nobody writes to it any more: to be closed as soon as it is delivered.
        retired: it is this process's own, which writes to another one by now.
        due: when its rows are to be sent, on the monotonic clock, or None if nobody has asked.
        done: runs of it that have been delivered, beyond ``acked``.
        flights: how many requests carry rows of it.
        taken: another process delivers from it.
        unreadable: why its rows could not be read when it was tried last, or None.
        faults: how often they could not be.
        lost: from where on rows could not be read back, as far as the deliveries under way know of it.
        limit: what lies behind it stays where it is; None for no such bound.
    """

    def __init__(self, journal: Journal, first: list[Row], *, orphan: bool = False) -> None:
        self.journal = journal
        self.cursor = journal.acked
        self.first = first
        self.orphan = orphan
        self.retired = False
        self.due: float | None = None
        self.done: list[Run] = []
        self.flights = 0
        self.taken = False
        self.unreadable: str | None = None
        self.faults = 0
        self.lost: Position | None = None
        self.limit: Position | None = None

    @property
    def end(self) -> Position:
        """How far it is to be delivered."""
        return self.journal.end if self.limit is None else min(self.limit, self.journal.end)

    @property
    def idle(self) -> bool:
        return self.cursor >= self.end and not self.flights and not self.first

    @property
    def delivered(self) -> bool:
        return self.journal.acked >= self.end and not self.first and not self.flights


class Run:
    """What of a journal is in one batch, to begin with nothing.

    Attributes:
        start, end: the entries between these positions.
        first: rows that went ahead of them.
        stale: rows before it are sent again, and so must it be, for their order: that it lands counts for nothing.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.start = self.end = source.cursor
        self.first: list[Row] = []
        self.stale = False

    def __bool__(self) -> bool:
        """False if nothing could be taken."""
        return bool(self.first) or self.end > self.start


class Flight:
    """A batch under way.

    Attributes:
        frozen: it was under way while the process was frozen, so that it may never be answered.
        void: given up: what comes of it no longer counts.
        counted: somebody has waited for it in vain, which the breaker has counted.
    """

    def __init__(self, batch: Batch, runs: list[Run], thread: threading.Thread) -> None:
        self.batch = batch
        self.runs = runs
        self.thread = thread
        self.frozen = self.void = self.counted = False
