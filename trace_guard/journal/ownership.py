"""Which invocation a span belongs to."""

from __future__ import annotations

from typing import Any

from .invocation_record import InvocationRecord
from .recent import RecentDict
from .row_facts import RowFacts

__all__ = ["Ownership"]


class Ownership:
    """Follows ``span_parents`` up to the root span of an invocation. An owner is the row id of that root.

    ``root_span_id`` alone doesn't decide: concurrent invocations that adopted the same parent share it. Not
    thread-safe.

    Attributes:
        live: the invocations that are running, by the row id of their root.
    """

    def __init__(self) -> None:
        self.live: dict[str, InvocationRecord] = {}
        # Owners by span id. A span that has ended is remembered, as it may still get children.
        self._roots: dict[str, str] = {}
        self._spans: RecentDict[str] = RecentDict()
        # Owners by root_span_id, of invocations that are over.
        self._finished: RecentDict[str] = RecentDict()

    def begin(self, record: InvocationRecord) -> None:
        self.live[record.root] = record
        self._roots[record.span_id] = record.root

    def finish(self, record: InvocationRecord) -> None:
        """The invocation is over. It keeps its spans, and owns those that start below them later."""
        self.live.pop(record.root, None)
        self._finished[record.root_span_id] = record.root
        self._spans[record.span_id] = record.root
        self._roots.pop(record.span_id, None)

    def claim(self, row: RowFacts) -> str | None:
        """The owner of a row's span, which is remembered for the span's children."""
        owner = self.owner_of(row)
        if owner is not None and row.span_id is not None:
            self._spans[row.span_id] = owner
        return owner

    def adopt(self, span: Any, root: str) -> bool:
        """Make an invocation the owner of a span, unless one of the span's parents has an owner.

        Args:
            span: has ``span_id`` and ``span_parents``.
        """
        for parent in span.span_parents or ():
            if parent in self._roots or parent in self._spans:
                return False
        self._spans[span.span_id] = root
        return True

    def owner_of(self, row: RowFacts) -> str | None:
        """The owner of a row's span; None if it belongs to the process, or if the row is not of a span."""
        if row.span_id is None:
            return None
        for span_id in (row.span_id, *row.parents):
            if span_id in self._roots:
                return self._roots[span_id]
            if span_id in self._spans:
                # A span that still gets children is not forgotten, however many spans a long job has.
                self._spans.move_to_end(span_id)
                return self._spans[span_id]
        in_trace = [record.root for record in self.live.values() if record.root_span_id == row.trace]
        if len(in_trace) == 1:
            return in_trace[0]
        if not in_trace and row.trace in self._finished:
            return self._finished[row.trace]
        if not row.parents and len(self.live) == 1 and row.start is not None:
            # A new trace that starts while one invocation is running belongs to it.
            (only,) = self.live.values()
            if row.start >= only.started:
                return only.root
        return None
