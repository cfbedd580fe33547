"""The bookkeeping of row delivery: the journals, the lanes of their rows, and the requests in flight.

These are plain classes because every dataclass adds a third of a millisecond to a cold start.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from ..contain import contain
from ..journal.format import Kind
from .handover import MEMORY, Handover, PendingRow

if TYPE_CHECKING:
    from ..journal.base import Journal
    from ..journal.format import Position
    from ..rows import Row
    from .batch import Batch

__all__ = ["OTHER_PROCESS_PAUSE", "OTHER_PROCESS_SECONDS", "JournalCursor", "Lane", "Request"]

OTHER_PROCESS_PAUSE = 0.05
"""The pause before a journal that another process delivers from is tried again."""

OTHER_PROCESS_SECONDS = 2.0
"""How long to wait for another process to finish delivering."""

# So much is read from disk at a time.
_CHUNK_BYTES = 1024 * 1024
# The first share of a trace in a request, so that a large one leaves room for others.
_LEAST_TRACES = 4
# So many rows of a running invocation don't wait for company.
_PLENTY_ROWS = 1000


class Lane:
    """The rows of one trace in one journal, in order. At most one request in flight has rows of a lane.

    Attributes:
        waiting: the rows that are in no request.
        in_flight: those that are.
    """

    __slots__ = ("cursor", "in_flight", "trace", "waiting")

    def __init__(self, cursor: JournalCursor, trace: str) -> None:
        self.cursor = cursor
        self.trace = trace
        self.waiting: deque[PendingRow] = deque()
        self.in_flight: list[PendingRow] = []

    def is_settled(self, upto: Position) -> bool:
        """True if no row before a position is left."""
        if self.in_flight:
            return self.in_flight[0].end > upto
        return next((row.end > upto for row in self.waiting if not row.settled), True)


class JournalCursor:
    """A journal, and how far it has been delivered.

    Rows come from the handover, or from disk where there is a gap, in the order of the journal. They wait in lanes.
    ``acked`` of the journal moves over the longest prefix that is settled.

    Attributes:
        position: the rows before it have been put into lanes.
        first: rows to send before all others: the ends of spans whose payloads follow later.
        orphan: nobody writes to the journal any more. It is closed once it is delivered.
        retired: this process wrote to the journal, and writes to another one now.
        due: when rows are to be sent, on the monotonic clock; None if nobody has asked for it.
        waiting: how many rows are in lanes and in no request.
        requests: how many requests in flight carry rows of the journal.
        taken_elsewhere: another process delivers from the journal.
        read_error: why the last attempt to read the journal failed, or None.
        read_failures: how many attempts to read it have failed.
        reads: how many times the journal was read.
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
        self.waiting = 0
        self.requests = 0
        self.taken_elsewhere = False
        self.read_error: str | None = None
        self.read_failures = 0
        self.reads = 0
        self.lost: Position | None = None
        self.limit: Position | None = None
        self._handover = Handover(self.position)
        self._lanes: dict[str, Lane] = {}
        self._ready: deque[Lane] = deque()
        self._is_sorted = True
        # The rows that are not settled, in order, and the lane of each id, with how many rows of it are not settled.
        # What is settled out of order needs no memory.
        self._unsettled: dict[PendingRow, None] = {}
        self._ids: dict[str, tuple[Lane, int]] = {}
        # Rows without a trace in the lane of one, as they have the id of one of its spans.
        self._strays: list[PendingRow] = []
        journal.follow(self._handover)

    @property
    def end(self) -> Position:
        """The position up to which rows are to be delivered."""
        return self.journal.end if self.limit is None else min(self.limit, self.journal.end)

    @property
    def idle(self) -> bool:
        """True if no row is left to be put into a batch, and no request is in flight."""
        return self.position >= self.end and not self.waiting and not self.requests and not self.first

    @property
    def delivered(self) -> bool:
        """True if every row has been acknowledged."""
        return self.journal.acked >= self.end and not self.first and not self.requests

    @property
    def has_plenty(self) -> bool:
        """True if so much is handed over that it should not wait for more."""
        return len(self._handover) >= _PLENTY_ROWS or MEMORY.held * 2 > MEMORY.limit

    def is_settled(self, traces: Collection[str], upto: Position) -> bool:
        """True if the rows of these traces before a position are delivered or dead letters; without traces, all rows.
        Rows that belong to no trace count as well."""
        if self.journal.acked >= upto:
            return True
        if not traces or self.position < upto:
            return False
        self._strays = [row for row in self._strays if not row.settled]
        return not any(row.end <= upto for row in self._strays) and all(
            lane is None or lane.is_settled(upto) for lane in map(self._lanes.get, ("", *traces))
        )

    def is_in_flight(self, traces: Iterable[str]) -> bool:
        """True if a request has rows of one of these traces."""
        return any(lane is not None and lane.in_flight for lane in map(self._lanes.get, traces))

    # Rows come in

    def pull(self) -> bool:
        """Put the rows that were handed over into lanes. Returns False if there are more on disk."""
        end = self.end  # before: what is written up to here has been handed over, or is to be read
        upto = self._handover.upto
        for row in self._handover.take():
            if row.end > self.position:
                self._add(row)
            else:
                MEMORY.give_back(row)  # another process has delivered it, or it was read
        self.position = max(self.position, upto)
        return self.position >= end

    def read(self) -> None:
        """Put a part of what is on disk into lanes, and catch up with the writer if that was all."""
        self.reads += 1
        until, size = self.end, 0
        for entry in self.journal.read(self.position):
            if size > _CHUNK_BYTES or (size and MEMORY.is_full):
                break
            if entry.end > until and self.limit is not None:
                self.position = until
                break
            if entry.kind == Kind.ROW:
                row = PendingRow.read(entry.payload, entry.flags, entry.end)
                MEMORY.take(row)
                self._add(row)
                size += row.held
            self.position = entry.end
        else:
            # Entries that are damaged, or that a full memory has dropped, are skipped.
            self.position = max(self.position, until)
            if self.limit is None:
                self._handover.reopen(self.position)

    def stop_at(self, limit: Position) -> None:
        """Send nothing behind a position. What is there stays on disk."""
        self.pull()
        self.limit = limit
        self._handover.close()
        for row in [row for row in self._unsettled if row.end > limit and not self._is_in_flight(row)]:
            self._forget(row)
        self.position = min(self.position, limit)

    def skip_delivered(self) -> None:
        """Another process may have delivered some rows."""
        acked = self.journal.acked
        if acked > self._settled_end:
            for row in [row for row in self._unsettled if row.end <= acked and not self._is_in_flight(row)]:
                self._forget(row)
        self.position = max(self.position, acked)

    def _add(self, row: PendingRow) -> None:
        held = self._ids.get(row.row_id)
        if held is None:
            lane = self._lanes.get(row.trace)
            if lane is None:
                lane = self._lanes[row.trace] = Lane(self, row.trace)
            self._ids[row.row_id] = lane, 1
        else:
            lane = held[0]
            self._ids[row.row_id] = lane, held[1] + 1
            if row.trace != lane.trace:
                self._strays.append(row)
        if not lane.waiting and not lane.in_flight:
            self._ready.append(lane)
        lane.waiting.append(row)
        self.waiting += 1
        self._unsettled[row] = None
        row.start, self.position = self.position, row.end

    # Rows go out

    def take(self, request: Request, busy: Collection[str], most_bytes: int) -> None:
        """Put the rows of lanes that are ready into a request.

        Args:
            busy: traces that other requests have rows of.
            most_bytes: a batch of this size gets no more.
        """
        batch, left = request.batch, []
        if not self._is_sorted:  # what failed goes before what came later
            self._ready = deque(sorted(self._ready, key=lambda lane: lane.waiting[0].end))
            self._is_sorted = True
        # Rows that were read from disk meanwhile may join those of their trace in the same request.
        more = deque(lane for lane in request.lanes if lane.cursor is self and lane.waiting)
        share = batch.max_bytes // _LEAST_TRACES
        while (more or self._ready) and not batch.full and batch.size <= most_bytes:
            lane = self._ready.popleft() if self._ready else more.popleft()
            if lane.trace in busy:
                left.append(lane)
                continue
            until, is_refused = min(batch.size + share, most_bytes), False
            while lane.waiting and batch.size <= until:
                row = lane.waiting[0]
                if not row.settled:
                    is_refused = not batch.take(row)
                    if is_refused:
                        break
                    if not lane.in_flight:
                        request.lanes.append(lane)
                    lane.in_flight.append(row)
                    self.waiting -= 1
                lane.waiting.popleft()
            if not lane.in_flight:
                if lane.waiting:
                    left.append(lane)
                else:
                    del self._lanes[lane.trace]
            elif lane.waiting and not is_refused:
                more.append(lane)
        self._ready.extendleft(reversed(left))

    def landed(self, lane: Lane, *, delivered: bool) -> None:
        """The request with the rows of a lane has ended."""
        rows, lane.in_flight = lane.in_flight, []
        if delivered:
            for row in rows:
                self._settle(row)
        else:
            lane.waiting.extendleft(reversed(rows))
            self.waiting += len(rows)
        if lane.waiting:
            self._ready.append(lane)
            self._is_sorted = self._is_sorted and delivered
        elif self._lanes.get(lane.trace) is lane:
            del self._lanes[lane.trace]

    def acknowledge(self) -> bool:
        """Move ``acked`` over what is settled, up to the first gap. Returns True if it has moved."""
        before = self.journal.acked
        for _ in range(2):  # the journal may write again which spans are open, which is settled as well
            if self._settled_end <= self.journal.acked:
                break
            with contain("record in the journal what is delivered"):
                self.journal.acknowledge(self._settled_end)
            self.pull()
        return self.journal.acked > before

    def release(self) -> None:
        """Give back the memory. Nothing is delivered from here any more."""
        for row in (*self._handover.take(), *self._unsettled):
            MEMORY.give_back(row)

    @property
    def _settled_end(self) -> Position:
        """The position before the first row that is not settled."""
        first = next(iter(self._unsettled), None)
        return self.position if first is None else first.start

    def _is_in_flight(self, row: PendingRow) -> bool:
        return row in self._ids[row.row_id][0].in_flight

    def _forget(self, row: PendingRow) -> None:
        """A row in a lane is not to be sent."""
        self.waiting -= 1
        self._settle(row)

    def _settle(self, row: PendingRow) -> None:
        row.settled = True
        del self._unsettled[row]
        lane, count = self._ids[row.row_id]
        if count == 1:
            del self._ids[row.row_id]
        else:
            self._ids[row.row_id] = lane, count - 1
        MEMORY.give_back(row)


class Request:
    """A batch in flight.

    Attributes:
        lanes: those whose rows are in the batch.
        first: the rows that go before all others, each with its cursor.
        traces: those that the rows belong to.
        cursors: the journals that the rows are from.
        timed_out: somebody waited in vain for it, and the breaker has counted that as a failure.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.lanes: list[Lane] = []
        self.first: list[tuple[JournalCursor, Row]] = []
        self.traces: set[str] = set()
        self.cursors: dict[JournalCursor, None] = {}
        self.timed_out = False

    def board(self) -> None:
        """The batch gets no more rows."""
        self.traces = {row.trace for row in self.batch.rows}.union(lane.trace for lane in self.lanes)
        self.cursors = dict.fromkeys([*(lane.cursor for lane in self.lanes), *(cursor for cursor, _ in self.first)])
        for cursor in self.cursors:
            cursor.requests += 1
