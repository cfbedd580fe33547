"""What the journal and the delivery must know of a row, read once: each row passes through several of their parts."""

from __future__ import annotations

from ..rows import Row, about_of, dump, is_kept_open, is_span_row, number
from .format import ENTRY_OVERHEAD, Flag

__all__ = ["NewRow", "RowFacts"]

_NONE: Row = {}
# A plain number, as the operators of an enumeration are slow.
_VERBATIM = int(Flag.VERBATIM)


class RowFacts:
    """What a row says about its span. Times are in seconds since the epoch.

    Attributes:
        row: as parsed.
        is_span: it is a row of a span, and may be sent as a merge.
        row_id: its ``id``; None if it has none.
        span_id: None for a row without a span.
        trace: its ``root_span_id``.
        parents: its ``span_parents``.
        start: when the span started; None if the row doesn't start it.
        end: when the span ended; None if the row doesn't end it.
        about: the guard's part of the metadata.
    """

    __slots__ = ("about", "end", "is_span", "parents", "row", "row_id", "span_id", "start", "trace")

    def __init__(self, row: Row) -> None:
        get = row.get
        row_id, span_id, parents, metrics = get("id"), get("span_id"), get("span_parents"), get("metrics")
        self.row = row
        self.is_span = is_span_row(row)
        self.row_id = None if row_id is None else str(row_id)
        self.span_id = str(span_id) if span_id else None
        self.trace = str(get("root_span_id"))
        self.parents = tuple(map(str, parents)) if parents and isinstance(parents, list) else ()
        self.start = self.end = None
        if isinstance(metrics, dict):
            self.start, self.end = number(metrics.get("start")), number(metrics.get("end"))
        self.about = about_of(row) if get("metadata") else _NONE

    @property
    def is_forced(self) -> bool:
        """See :func:`trace_guard.rows.is_forced`."""
        return self.about.get("closed_by") is not None

    @property
    def is_durable(self) -> bool:
        """See :func:`trace_guard.rows.is_durable`."""
        return self.about.get("durable") is True

    @property
    def is_open_on_purpose(self) -> bool:
        """See :func:`trace_guard.rows.is_open_on_purpose`."""
        return self.is_durable or is_kept_open(self.about)


class NewRow(RowFacts):
    """A row to write.

    Attributes:
        encoded: the bytes that go into the journal.
        flags: how it is delivered, see :class:`.format.Flag`. Rows that are not of a span are always verbatim.
        size: bytes that it takes in the journal.
    """

    __slots__ = ("encoded", "flags", "size")

    def __init__(self, row: Row, encoded: bytes, flags: int = 0) -> None:
        super().__init__(row)
        self.encoded = encoded
        self.flags = flags if self.is_span else _VERBATIM
        self.size = len(encoded) + ENTRY_OVERHEAD

    @classmethod
    def of(cls, row: Row, flags: int = 0) -> NewRow:
        return cls(row, dump(row), flags)
