"""An invocation whose code is running, and what is left of it after a forced close."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..rows import Row
from .format import Position
from .invocation_record import InvocationRecord
from .open_span import OpenSpan, innermost_first
from .row_facts import RowFacts

__all__ = ["ForcedClose", "ForcedSpan", "Running"]


class ForcedSpan(NamedTuple):
    """A span that was closed while its code was still running.

    Attributes:
        own_end: what its own code has logged about its end, merged.
    """

    span: OpenSpan
    own_end: Row


class ForcedClose(NamedTuple):
    """An invocation that was closed while its code was still running: its root, and the spans that were open below,
    innermost first."""

    root: ForcedSpan
    spans: list[ForcedSpan]


class Running:
    """An invocation whose code is running, also after a forced close.

    Attributes:
        position: where its record is in the journal.
        rows: how many of its rows have been written.
        traces: the ids of the traces that they belong to.
        root_error: the error that its code has logged on the root.
        forced: the spans that were closed by force, by their row ids.
    """

    def __init__(self, record: InvocationRecord, position: Position) -> None:
        self.record = record
        self.position = position
        self.rows = 0
        self.traces = {record.root_span_id}
        self.root_error: Any = None
        self.forced: dict[str, ForcedSpan] = {}

    def count(self, row: RowFacts) -> None:
        """A row of the invocation has been written."""
        self.rows += 1
        self.traces.add(row.trace)

    def add_forced(self, span: OpenSpan) -> ForcedSpan:
        """A span was closed by force."""
        error = span.error or (self.root_error if span.row_id == self.record.root else None)
        forced = self.forced[span.row_id] = ForcedSpan(span, {} if error is None else {"error": error})
        return forced

    def forced_close(self) -> ForcedClose | None:
        """The forced close of the invocation; None if its root was not closed by force."""
        root = self.forced.pop(self.record.root, None)
        spans = innermost_first(forced.span for forced in self.forced.values())
        return None if root is None else ForcedClose(root, [self.forced[span.row_id] for span in spans])
