"""Which spans have started and not ended, read off the rows themselves.

The same code runs while rows are written and when a dead process's journal is read, so that both see the
same spans open. Nothing here looks at objects of the SDK: a span that is open is one that Braintrust may show.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .journal.format import Position
from .rows import Row, has_ended, identity, is_span_row, started_at

__all__ = ["InvocationRecord", "OpenSpan", "OpenSpans"]

_REMEMBERED = 20_000
_NOWHERE = Position(0, 0)


class InvocationRecord(NamedTuple):
    """What the journal knows of an invocation; times in seconds since the epoch.

    Attributes:
        root: the row id of its root span.
        span_id: that of its root span.
        started: when it began.
        deadline: when the platform ends it, or None.
        reserve: seconds before the deadline from which its end counts as a time-out.
    """

    root: str
    span_id: str
    root_span_id: str
    started: float
    deadline: float | None = None
    reserve: float = 0.0

    def to_row(self) -> Row:
        return self._asdict()

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> InvocationRecord:
        return cls(**{name: row[name] for name in cls._fields if name in row})


@dataclass
class OpenSpan:
    """A span that has started and not ended.

    Attributes:
        owner: the root's row id of the invocation that it belongs to, or None if it is the process's.
        position: where in the journal its start, or its carried identity, lies.
    """

    identity: Row
    name: str
    start: float
    owner: str | None
    position: Position
    has_error: bool = False

    @property
    def row_id(self) -> str:
        return str(self.identity["id"])


class _Live:
    def __init__(self, record: InvocationRecord, position: Position) -> None:
        self.record = record
        self.position = position
        self.rows = 0
        self.root_error = False


class OpenSpans:
    """The open spans of one process, and who they belong to. Safe to use from several threads."""

    def __init__(self) -> None:
        self._open: dict[str, OpenSpan] = {}
        self._live: dict[str, _Live] = {}
        # Which invocation a span belongs to, also after the span has ended: it may still get children.
        self._owners: OrderedDict[str, str] = OrderedDict()
        self._closed: OrderedDict[str, str] = OrderedDict()
        self._late: list[OpenSpan] = []
        self._dropped: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.RLock()

    def begin(self, record: InvocationRecord, position: Position = _NOWHERE) -> None:
        """An invocation has begun; its root's start row follows."""
        with self._lock:
            self._live[record.root] = _Live(record, position)
            self._remember(self._owners, record.span_id, record.root)

    def observe(self, row: Mapping[str, Any], position: Position = _NOWHERE) -> None:
        """A row has been written."""
        if not is_span_row(row) or row.get("id") is None:
            return
        with self._lock:
            row_id = str(row["id"])
            span = self._open.get(row_id)
            if row_id in self._live and row.get("error"):
                self._live[row_id].root_error = True
            if span is None:
                start = started_at(row)
                owner = self._owner(row, start)
                if owner is not None:
                    self._remember(self._owners, str(row["span_id"]), owner)
                    live = self._live.get(owner)
                    if live is not None:
                        live.rows += 1
                if start is None or has_ended(row):
                    return
                attributes = row.get("span_attributes")
                name = attributes.get("name") if isinstance(attributes, Mapping) else None
                span = OpenSpan(identity(row), str(name or "span"), start, owner, position)
                self._open[row_id] = span
                if owner is not None and owner not in self._live:
                    self._late.append(span)
            else:
                if span.owner in self._live:
                    self._live[span.owner].rows += 1
                if has_ended(row):
                    del self._open[row_id]
            span.has_error = span.has_error or bool(row.get("error"))

    def carried(self, row: Mapping[str, Any], position: Position) -> None:
        """The identity of an open span has been written again, as its start is about to be removed."""
        with self._lock:
            span = self._open.get(str(row.get("id")))
            if span is None:
                self.observe(row, position)
            else:
                span.position = position

    def finish(self, root: str) -> None:
        """An invocation is over; what starts below it from now on is late."""
        with self._lock:
            live = self._live.pop(root, None)
            if live is not None:
                self._remember(self._closed, live.record.root_span_id, root)

    def rows_of(self, root: str) -> int:
        """How many rows of a live invocation have been seen."""
        with self._lock:
            live = self._live.get(root)
            return live.rows if live else 0

    def knows(self, row: Mapping[str, Any]) -> bool:
        """True if the row belongs to an invocation that was begun here, live or over."""
        with self._lock:
            return bool(row.get("span_id")) and self._owner(row, started_at(row)) is not None

    def has_error(self, row_id: str) -> bool:
        """True if an error of an open span, or of the root of a live invocation, has been seen."""
        with self._lock:
            span, live = self._open.get(row_id), self._live.get(row_id)
            return (span is not None and span.has_error) or (live is not None and live.root_error)

    def is_open(self, row_id: str) -> bool:
        with self._lock:
            return row_id in self._open

    def drop(self, row_id: str) -> None:
        """There was no room for a span's start: what is said about it later is to be dropped as well."""
        with self._lock:
            self._remember(self._dropped, row_id, row_id)

    def was_dropped(self, row_id: str) -> bool:
        with self._lock:
            return row_id in self._dropped

    def open_of(self, root: str) -> list[OpenSpan]:
        """The open spans of one invocation, innermost first, the root last."""
        with self._lock:
            return self._innermost_first(span for span in self._open.values() if span.owner == root)

    def unowned(self) -> list[OpenSpan]:
        """The open spans that belong to no live invocation, innermost first."""
        with self._lock:
            return self._innermost_first(span for span in self._open.values() if span.owner not in self._live)

    def all_open(self) -> list[OpenSpan]:
        """Every open span, innermost first."""
        with self._lock:
            return self._innermost_first(self._open.values())

    def take_late(self) -> list[OpenSpan]:
        """The spans, given out once, that started below an invocation that was over."""
        with self._lock:
            late, self._late = self._late, []
            return [span for span in late if span.row_id in self._open]

    def record_of(self, root: str | None) -> InvocationRecord | None:
        with self._lock:
            live = self._live.get(root) if root is not None else None
            return live.record if live else None

    def live(self) -> list[InvocationRecord]:
        """The invocations that have begun and not finished."""
        with self._lock:
            return [one.record for one in self._live.values()]

    def up_to(self, segment: int) -> tuple[list[InvocationRecord], list[OpenSpan]]:
        """The live invocations and open spans that the journal would forget if it lost this segment."""
        with self._lock:
            return (
                [one.record for one in self._live.values() if one.position.segment <= segment],
                [span for span in self._open.values() if span.position.segment <= segment],
            )

    def moved(self, root: str, position: Position) -> None:
        """The record of an invocation has been written again, further on."""
        with self._lock:
            if root in self._live:
                self._live[root].position = position

    def _owner(self, row: Mapping[str, Any], start: float | None) -> str | None:
        """Ownership follows ``span_parents`` up to an invocation's root: root ids can be shared by concurrent
        invocations that adopted the same parent."""
        for span_id in (str(row["span_id"]), *_parents(row)):
            if span_id in self._owners:
                return self._owners[span_id]
        roots = [one.record.root for one in self._live.values() if one.record.root_span_id == row.get("root_span_id")]
        if len(roots) == 1:
            return roots[0]
        if not roots and row.get("root_span_id") in self._closed:
            return self._closed[row["root_span_id"]]
        if not _parents(row) and len(self._live) == 1:
            only = next(iter(self._live.values())).record
            if start is not None and start >= only.started:
                return only.root
        return None

    @staticmethod
    def _remember(memory: OrderedDict[str, str], key: str, value: str) -> None:
        memory[key] = value
        memory.move_to_end(key)
        while len(memory) > _REMEMBERED:
            memory.popitem(last=False)

    @staticmethod
    def _innermost_first(spans: Any) -> list[OpenSpan]:
        chosen = list(spans)
        by_span_id = {span.identity["span_id"]: span for span in chosen}

        def depth(span: OpenSpan) -> int:
            seen: set[str] = set()
            while True:
                above = next((parent for parent in _parents(span.identity) if parent in by_span_id), None)
                if above is None or above in seen:
                    return len(seen)
                seen.add(above)
                span = by_span_id[above]

        return sorted(chosen, key=lambda span: (depth(span), span.start), reverse=True)


def _parents(row: Mapping[str, Any]) -> list[str]:
    parents = row.get("span_parents")
    return [str(parent) for parent in parents] if isinstance(parents, list) else []
