"""A span that has started and not ended, the order in which open spans are closed, and what is still to be written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..rows import Row, identity, place_in
from .format import Position
from .invocation_record import InvocationRecord
from .row_facts import RowFacts

__all__ = ["FollowUps", "OpenSpan", "innermost_first"]

_CALLER = ("caller_filename", "caller_lineno", "caller_functionname")


class OpenSpan:
    """A span that has started and not ended.

    Attributes:
        identity: ids, parents and start, as :func:`trace_guard.rows.identity` gives them.
        row_id, span_id, parents: those of the identity.
        name: its name in the trace.
        start: in seconds since the epoch.
        owner: the row id of the root of its invocation; None if it belongs to the process.
        context: the ``context`` of its start row, which names the place where its code started it.
        position: where its start, or its carried identity, is in the journal.
        error: the error that its own code has logged.
    """

    __slots__ = ("context", "error", "identity", "name", "owner", "parents", "position", "row_id", "span_id", "start")

    def __init__(self, first: RowFacts, start: float, owner: str | None, position: Position) -> None:
        row = first.row
        self.identity = identity(row)
        self.row_id, self.span_id, self.parents = str(first.row_id), str(first.span_id), first.parents
        self.name = _name_of(row)
        self.start = start
        self.owner = owner
        self.position = position
        self.context = row.get("context")
        self.error: Any = None

    @property
    def place(self) -> str | None:
        """Where its code started it, such as ``app.py:42 in search``; None if unknown."""
        return place_in(self.context)

    @property
    def line(self) -> str | None:
        """The place without the function, such as ``app.py:42``; None if unknown."""
        return place_in(self.context, with_function=False)

    @property
    def start_row(self) -> Row:
        """What a recovery must know of the span, without payload."""
        row: Row = {**self.identity, "span_attributes": {"name": self.name}}
        if isinstance(self.context, dict):
            row["context"] = {key: self.context[key] for key in _CALLER if key in self.context}
        return row


class FollowUps(NamedTuple):
    """What rows call for.

    Attributes:
        links: the identities of spans that are roots in another object than their invocation.
        own_ends: the identities of spans that were marked as left open, and their own ends, which have come since.
        late: the open spans whose invocation was over when they started.
    """

    links: list[tuple[Row, InvocationRecord]]
    own_ends: list[tuple[Row, Row]]
    late: list[OpenSpan]


def _name_of(row: Mapping[str, Any]) -> str:
    attributes = row.get("span_attributes")
    name = attributes.get("name") if isinstance(attributes, dict) else None
    return name if isinstance(name, str) and name else "span"


def innermost_first(spans: Iterable[OpenSpan]) -> list[OpenSpan]:
    """Sort spans so that each comes before its parents, and those of one depth by their start, latest first."""
    chosen = list(spans)
    by_span_id = {span.span_id: span for span in chosen}
    depths: dict[str, int] = {}
    for span_id in by_span_id:
        path: list[str] = []
        above: str | None = span_id
        while above is not None and above not in depths:
            path.append(above)
            depths[above] = 0  # ends a cycle of parents
            above = next((parent for parent in by_span_id[above].parents if parent in by_span_id), None)
        depth = 0 if above is None else depths[above] + 1
        for step in reversed(path):
            depths[step], depth = depth, depth + 1
    return sorted(chosen, key=lambda span: (depths[span.span_id], span.start), reverse=True)
