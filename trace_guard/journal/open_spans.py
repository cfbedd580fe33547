"""Which spans have started and not ended.

Spans are read off the rows, never off objects of the SDK: an open span is one that Braintrust may show as open. The
same code runs while rows are written and when the journal of a dead process is read, so both see the same spans.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ..rows import Row, about_end, is_left, merge
from .activity import Activity
from .format import Position
from .invocation_record import InvocationRecord
from .links import Links
from .open_span import FollowUps, OpenSpan, innermost_first
from .ownership import Ownership
from .recent import RecentDict
from .row_facts import RowFacts
from .running import ForcedClose, ForcedSpan, Running

__all__ = ["ForcedClose", "ForcedSpan", "OpenSpan", "OpenSpans"]

_NOWHERE = Position(0, 0)


class OpenSpans:
    """The open spans of one process, and the invocations that they belong to. Thread-safe."""

    def __init__(self) -> None:
        self._open: dict[str, OpenSpan] = {}
        self._ownership = Ownership()
        self._links = Links()
        self._live: dict[str, Running] = {}
        # Invocations after a forced close, until their code has ended; and the spans that were closed.
        self._forced: dict[str, Running] = {}
        self._forced_spans: dict[str, ForcedSpan] = {}
        # Open spans whose invocation was over when they started.
        self._late: list[OpenSpan] = []
        # Spans that were closed when their invocation ended, and whose own code has not ended them yet; and their own
        # ends that have come since.
        self._left: RecentDict[Row] = RecentDict()
        self._own_ends: RecentDict[tuple[Row, Row]] = RecentDict()
        # Row ids of spans that were not recorded, and of those that are open on purpose.
        self._dropped: RecentDict[None] = RecentDict()
        self._on_purpose: RecentDict[None] = RecentDict()
        self._activity: Activity | None = None
        self._lock = threading.RLock()

    # What is written

    def begin(self, record: InvocationRecord, position: Position = _NOWHERE) -> None:
        """An invocation has begun. The start row of its root follows."""
        with self._lock:
            self._live[record.root] = Running(record, position)
            self._ownership.begin(record)
            written = self._open.get(record.root)
            if written is not None:  # an old release of the SDK has logged a row of the root already
                written.owner = record.root

    def adopt(self, span: Any, root: str) -> None:
        """The code of a live invocation has started a span, which belongs to it unless a parent of the span's decides.

        Args:
            span: has ``id``, ``span_id`` and ``span_parents``. Its rows may have been written already.
            root: the row id of the invocation's root.
        """
        with self._lock:
            if root not in self._live or span.id == root or not self._ownership.adopt(span, root):
                return
            written = self._open.get(span.id)
            if not span.span_parents:
                self._links.expect(span.id, root)
            if written is not None:
                written.owner = root
                self._observe_link(span.id, written.identity, root)

    def observe(self, row: RowFacts, position: Position = _NOWHERE) -> None:
        """A row has been written."""
        row_id = row.row_id
        if row_id is None or not row.is_span:
            return
        with self._lock:
            if self._activity is not None:
                self._activity.note(row)
            # The end of an invocation is that of its root, even if its code has called keep_open().
            if row.about and row.is_open_on_purpose and (row_id not in self._live or row.is_durable):
                self._on_purpose[row_id] = None
                self._open.pop(row_id, None)
            if row_id in self._on_purpose:
                return
            error = row.row.get("error")
            if error and row_id in self._live:
                self._live[row_id].root_error = error
            if row_id in self._forced_spans and not row.is_forced:
                merge(self._forced_spans[row_id].own_end, about_end(row.row))
            span = self._open.get(row_id)
            if span is None:
                span = self._observe_first(row_id, row, position)
            else:
                self._count(span.owner, row)
                if row.end is not None:
                    self._observe_end(span, row)
            if error and span is not None:
                span.error = error

    def _observe_first(self, row_id: str, row: RowFacts, position: Position) -> OpenSpan | None:
        """A row of a span that is not open. Returns the span if the row opens it."""
        if row.end is not None and row_id in self._left and not row.is_forced:
            self._own_ends[row_id] = self._left.pop(row_id), about_end(row.row)
        owner = self._ownership.claim(row)
        self._count(owner, row)
        if self._links.are_expected:
            self._observe_link(row_id, row.row, owner)
        if row.start is None or row.end is not None:
            return None
        span = self._open[row_id] = OpenSpan(row, row.start, owner, position)
        if owner is not None and owner not in self._live:
            self._late.append(span)
        return span

    def _observe_end(self, span: OpenSpan, row: RowFacts) -> None:
        del self._open[span.row_id]
        if not row.is_forced:
            return
        if is_left(row.row):
            self._left[span.row_id] = span.identity
        running = self._forced.get(span.owner or "")
        if running is not None and span.row_id not in self._forced_spans:
            self._forced_spans[span.row_id] = running.add_forced(span)

    def carried(self, row: RowFacts, position: Position) -> None:
        """The identity of an open span has been written again, as the segment with its start is to be removed."""
        with self._lock:
            span = self._open.get(str(row.row_id))
            if span is None:
                self.observe(row, position)
            else:
                span.position = position

    def moved(self, root: str, position: Position) -> None:
        """The record of an invocation has been written again."""
        with self._lock:
            if root in self._live:
                self._live[root].position = position

    def drop(self, row_id: str) -> None:
        """The start of a span was not written. Later rows of the span are not to be written either."""
        with self._lock:
            self._dropped[row_id] = None

    # Ends

    def force(self, root: str) -> list[OpenSpan]:
        """Begin the forced close of a live invocation. A span that starts below it from now on is late.

        Returns its open spans without the root, innermost first.
        """
        with self._lock:
            spans = self.open_of(root)
            running = self._end(root)
            if running is not None:
                self._forced[root] = running
                self._forced_spans.update((span.row_id, running.add_forced(span)) for span in spans)
            return [span for span in spans if span.row_id != root]

    def finish(self, root: str) -> ForcedClose | None:
        """An invocation is over. A span that starts below it from now on is late. Returns its forced close, if any."""
        with self._lock:
            self._end(root)
            self._links.forget(root)
            running = self._forced.pop(root, None)
            if running is None:
                return None
            for row_id in running.forced:
                self._forced_spans.pop(row_id, None)
            return running.forced_close()

    @property
    def has_followups(self) -> bool:
        """True if the rows that were written call for others."""
        return bool(self._late or self._own_ends or self._links.has_new)

    def take_followups(self) -> FollowUps:
        """What the rows that were written call for. Each span is returned once."""
        with self._lock:
            late, self._late = [span for span in self._late if span.row_id in self._open], []
            ends, self._own_ends = list(self._own_ends.values()), RecentDict()
            return FollowUps(self._links.take(), ends, late)

    def is_of_live(self, row: RowFacts) -> bool:
        """True if the row belongs to an invocation that is running."""
        with self._lock:
            return self._ownership.owner_of(row) in self._live

    def late_in(self, rows: Sequence[RowFacts]) -> list[Row]:
        """The rows, about to be written, that would leave a span open whose invocation is over, innermost last."""
        late: dict[str, Row] = {}
        owners: dict[str, str | None] = {}
        with self._lock:
            for row in rows:
                row_id = row.row_id
                if row_id is None or not row.is_span or row_id in self._open or row_id in self._on_purpose:
                    continue
                if row.about and row.is_open_on_purpose:
                    continue
                above = next((owners[parent] for parent in row.parents if parent in owners), None) if owners else None
                owner = owners[str(row.span_id)] = above or self._ownership.owner_of(row)
                if row.end is not None:
                    late.pop(row_id, None)
                elif row.start is not None and owner is not None and owner not in self._live:
                    late[row_id] = row.row
        return list(late.values())

    # Activity

    def follow_activity(self) -> None:
        """Note from now on when something happens in the spans, for :meth:`idle`."""
        with self._lock:
            self._activity = self._activity or Activity()

    @property
    def has_open(self) -> bool:
        """True if any span is open."""
        return bool(self._open)

    def idle(self, seconds: float) -> tuple[list[tuple[OpenSpan, float]], float | None]:
        """The spans that no deadline bounds and in whose subtree nothing has happened for ``seconds``, innermost
        first, each with the time of its last activity; and the seconds until others may be due, None if none is
        open."""
        with self._lock:
            if self._activity is None:
                return [], None
            spans = innermost_first(self._open.values())
            found = self._activity.idle(spans, self._has_deadline, seconds)
            return [(span, found.ends[span.span_id]) for span in spans if span.span_id in found.ends], found.wait

    def is_idle_since(self, span: OpenSpan, moment: float) -> bool:
        """True if the span is open, and this is still the time of its last activity that :meth:`idle` has returned."""
        with self._lock:
            activity = self._activity
            return span.row_id in self._open and activity is not None and activity.last_of(span) == moment

    def _has_deadline(self, span: OpenSpan) -> bool:
        record = None if span.owner is None else self._ownership.live.get(span.owner)
        return record is not None and record.deadline is not None

    # Questions

    def links_of(self, root: str) -> Row:
        """The links of an invocation that is not finished, for the metadata of its root."""
        with self._lock:
            return self._links.of(root)

    def rows_of(self, root: str) -> int:
        """How many rows of an invocation that is not finished have been written."""
        with self._lock:
            running = self._running(root)
            return running.rows if running else 0

    def owner_of(self, row: RowFacts) -> str | None:
        """The root's id of the invocation that a row belongs to, even if it is over; None if it belongs to the process.
        """
        with self._lock:
            return self._ownership.owner_of(row)

    def traces_of(self, root: str) -> set[str]:
        """The ids of the traces that the rows of an invocation that is not finished belong to: its own trace, and those
        of spans that are roots in another object."""
        with self._lock:
            running = self._running(root)
            return set(running.traces) if running else set()

    def has_error(self, row_id: str) -> bool:
        """True if an open span, or the root of a live invocation, has an error."""
        with self._lock:
            span, live = self._open.get(row_id), self._live.get(row_id)
            return bool((span and span.error) or (live and live.root_error))

    def is_open(self, row_id: str) -> bool:
        with self._lock:
            return row_id in self._open or row_id in self._on_purpose

    @property
    def has_dropped(self) -> bool:
        """True if spans were not recorded lately."""
        return bool(self._dropped)

    def was_dropped(self, row_id: str) -> bool:
        with self._lock:
            return row_id in self._dropped

    def open_of(self, root: str) -> list[OpenSpan]:
        """The open spans of one invocation, innermost first, the root last."""
        with self._lock:
            return innermost_first(span for span in self._open.values() if span.owner == root)

    def unowned(self) -> list[OpenSpan]:
        """The open spans that belong to no live invocation, innermost first."""
        with self._lock:
            return innermost_first(span for span in self._open.values() if span.owner not in self._live)

    def all_open(self) -> list[OpenSpan]:
        """Every open span, innermost first."""
        with self._lock:
            return innermost_first(self._open.values())

    def record_of(self, root: str | None) -> InvocationRecord | None:
        """The record of a live invocation."""
        with self._lock:
            return None if root is None else self._ownership.live.get(root)

    def live(self) -> list[InvocationRecord]:
        """The invocations that have begun, and are neither finished nor closed by force."""
        with self._lock:
            return [*self._ownership.live.values()]

    def up_to(self, segment: int) -> tuple[list[InvocationRecord], list[OpenSpan]]:
        """The live invocations and open spans that are recorded in this segment or an earlier one."""
        with self._lock:
            return (
                [running.record for running in self._live.values() if running.position.segment <= segment],
                [span for span in self._open.values() if span.position.segment <= segment],
            )

    def _observe_link(self, row_id: str, row: Row, owner: str | None) -> None:
        if owner is not None:
            root = self._open.get(owner)
            self._links.observe(
                row_id, row, self._ownership.live.get(owner), root.identity if root is not None else None
            )

    def _end(self, root: str) -> Running | None:
        running = self._live.pop(root, None)
        if running is not None:
            self._ownership.finish(running.record)
        return running

    def _running(self, root: str | None) -> Running | None:
        return None if root is None else self._live.get(root) or self._forced.get(root)

    def _count(self, owner: str | None, row: RowFacts) -> None:
        running = self._running(owner)
        if running is not None:
            running.count(row)
