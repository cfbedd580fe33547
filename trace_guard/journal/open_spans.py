"""Which spans have started and not ended, read off the rows themselves.

The same code runs while rows are written and when a dead process's journal is read, so that both see the
same spans open. Nothing here looks at objects of the SDK: a span that is open is one that Braintrust may show.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..rows import (
    Row,
    about_end,
    has_ended,
    identity,
    is_durable,
    is_forced,
    is_span_row,
    merge,
    started_at,
)
from .format import Position
from .invocation_record import InvocationRecord

__all__ = ["ForcedClose", "ForcedSpan", "OpenSpan", "OpenSpans"]

_REMEMBERED = 20_000
_NOWHERE = Position(0, 0)


class OpenSpan:
    """A span that has started and not ended.

    Attributes:
        owner: the root's row id of the invocation that it belongs to, or None if it is the process's.
        position: where in the journal its start, or its carried identity, lies.
        error: what its own code has logged as its error.
    """

    def __init__(
        self, identity: Row, name: str, start: float, owner: str | None, position: Position
    ) -> None:
        self.identity = identity
        self.name = name
        self.start = start
        self.owner = owner
        self.position = position
        self.error: Any = None

    @property
    def row_id(self) -> str:
        return str(self.identity["id"])


class ForcedSpan(NamedTuple):
    """A span that was closed while its code still ran.

    Attributes:
        said: what its own code has said about its end, merged.
    """

    span: OpenSpan
    said: Row


class ForcedClose(NamedTuple):
    """An invocation that was closed while its code still ran: its root, and what was open below, innermost first."""

    root: ForcedSpan
    spans: list[ForcedSpan]


class _Live:
    def __init__(self, record: InvocationRecord, position: Position) -> None:
        self.record = record
        self.position = position
        self.rows = 0
        self.root_error: Any = None
        self.forced: dict[str, ForcedSpan] = {}


class OpenSpans:
    """The open spans of one process, and who they belong to. Safe to use from several threads."""

    def __init__(self) -> None:
        self._open: dict[str, OpenSpan] = {}
        self._live: dict[str, _Live] = {}
        # Which invocation a span belongs to, also after the span has ended: it may still get children.
        self._owners: OrderedDict[str, str] = OrderedDict()
        # Those of the roots of live invocations, which last as long as these.
        self._roots: dict[str, str] = {}
        self._closed: OrderedDict[str, str] = OrderedDict()
        self._late: list[OpenSpan] = []
        # Invocations that were closed by force, and the row ids of their spans.
        self._forced: dict[str, _Live] = {}
        self._forced_spans: dict[str, ForcedSpan] = {}
        self._dropped: OrderedDict[str, str] = OrderedDict()
        # Spans that are left open on purpose, see trace_guard.rows.durable.
        self._durable: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.RLock()

    def begin(self, record: InvocationRecord, position: Position = _NOWHERE) -> None:
        """An invocation has begun; its root's start row follows."""
        with self._lock:
            self._live[record.root] = _Live(record, position)
            self._roots[record.span_id] = record.root

    def observe(self, row: Mapping[str, Any], position: Position = _NOWHERE) -> None:
        """A row has been written."""
        if not is_span_row(row) or row.get("id") is None:
            return
        with self._lock:
            row_id = str(row["id"])
            if is_durable(row):
                self._remember(self._durable, row_id, row_id)
                self._open.pop(row_id, None)
            if row_id in self._durable:
                return
            span = self._open.get(row_id)
            if row_id in self._live and row.get("error"):
                self._live[row_id].root_error = row["error"]
            forced = self._forced_spans.get(row_id)
            if forced is not None and not is_forced(row):
                merge(forced.said, about_end(row))
            if span is None:
                start = started_at(row)
                owner = self._owner(row, start)
                if owner is not None:
                    self._remember(self._owners, str(row["span_id"]), owner)
                    self._count(owner)
                if start is None or has_ended(row):
                    return
                attributes = row.get("span_attributes")
                name = attributes.get("name") if isinstance(attributes, Mapping) else None
                name = name if isinstance(name, str) else None
                span = OpenSpan(identity(row), str(name or "span"), start, owner, position)
                self._open[row_id] = span
                if owner is not None and owner not in self._live:
                    self._late.append(span)
            else:
                self._count(span.owner)
                if has_ended(row):
                    del self._open[row_id]
            span.error = row.get("error") or span.error

    def carried(self, row: Mapping[str, Any], position: Position) -> None:
        """The identity of an open span has been written again, as its start is about to be removed."""
        with self._lock:
            span = self._open.get(str(row.get("id")))
            if span is None:
                self.observe(row, position)
            else:
                span.position = position

    def force(self, root: str) -> list[OpenSpan]:
        """A live invocation is about to be closed by force: its open spans, innermost first, without the root. What
        starts below it from now on is late."""
        with self._lock:
            spans = self.open_of(root)
            live = self._take(root)
            if live is not None:
                self._forced[root] = live
                for span in spans:
                    self._add_forced(live, span)
            return [span for span in spans if span.row_id != root]

    def finish(self, root: str) -> ForcedClose | None:
        """An invocation is over; what starts below it from now on is late. Returns its forced close, if it had one."""
        with self._lock:
            self._take(root)
            live = self._forced.pop(root, None)
            if live is None:
                return None
            for row_id in live.forced:
                self._forced_spans.pop(row_id, None)
            closed = live.forced.pop(root, None)
            if closed is None:
                return None
            spans = self._innermost_first(forced.span for forced in live.forced.values())
            return ForcedClose(closed, [live.forced[span.row_id] for span in spans])

    def _add_forced(self, live: _Live, span: OpenSpan) -> None:
        error = span.error or (live.root_error if span.row_id == live.record.root else None)
        forced = ForcedSpan(span, {} if error is None else {"error": error})
        live.forced[span.row_id] = self._forced_spans[span.row_id] = forced

    def rows_of(self, root: str) -> int:
        """How many rows of an invocation that is not finished have been seen."""
        with self._lock:
            found = self._unfinished(root)
            return found.rows if found else 0

    def knows(self, row: Mapping[str, Any]) -> bool:
        """True if the row belongs to an invocation that was begun here, live or over."""
        with self._lock:
            return bool(row.get("span_id")) and self._owner(row, started_at(row)) is not None

    def has_error(self, row_id: str) -> bool:
        """True if an error of an open span, or of the root of a live invocation, has been seen."""
        with self._lock:
            span, live = self._open.get(row_id), self._live.get(row_id)
            return bool((span and span.error) or (live and live.root_error))

    def is_open(self, row_id: str) -> bool:
        with self._lock:
            return row_id in self._open or row_id in self._durable

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
            late, self._late = [span for span in self._late if span.row_id in self._open], []
            for span in late:
                if span.owner in self._forced:
                    self._add_forced(self._forced[span.owner], span)
            return late

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

    def _take(self, root: str) -> _Live | None:
        """An invocation is live no more; it, if it was until now."""
        live = self._live.pop(root, None)
        if live is not None:
            self._remember(self._closed, live.record.root_span_id, root)
            self._roots.pop(live.record.span_id, None)
            self._remember(self._owners, live.record.span_id, root)
        return live

    def _unfinished(self, root: str | None) -> _Live | None:
        return None if root is None else self._forced.get(root) or self._live.get(root)

    def _count(self, owner: str | None) -> None:
        found = self._unfinished(owner)
        if found is not None:
            found.rows += 1

    def _owner(self, row: Mapping[str, Any], start: float | None) -> str | None:
        """Ownership follows ``span_parents`` up to an invocation's root: root ids can be shared by concurrent
        invocations that adopted the same parent."""
        for span_id in (str(row["span_id"]), *_parents(row)):
            if span_id in self._roots:
                return self._roots[span_id]
            if span_id in self._owners:
                # What still gets children is not forgotten, however many spans a long job has.
                self._owners.move_to_end(span_id)
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
        by_span_id = {str(span.identity["span_id"]): span for span in chosen}
        depths: dict[str, int] = {}
        for span_id in by_span_id:
            path: list[str] = []
            above: str | None = span_id
            while above is not None and above not in depths:
                path.append(above)
                depths[above] = 0  # so that a circle ends
                above = next((one for one in _parents(by_span_id[above].identity) if one in by_span_id), None)
            depth = 0 if above is None else depths[above] + 1
            for one in reversed(path):
                depths[one], depth = depth, depth + 1
        return sorted(chosen, key=lambda span: (depths[str(span.identity["span_id"])], span.start), reverse=True)


def _parents(row: Mapping[str, Any]) -> list[str]:
    parents = row.get("span_parents")
    return [str(parent) for parent in parents] if isinstance(parents, list) else []
