"""Groups spans into traces, and finds out which are stuck: when anything last happened in them, and what is open."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..rows import OBJECT_KEYS, Row, has_ended, is_kept_open, number
from .cause import Cause, cause_of_trace, causes
from .source import LogObject, created_at

__all__ = ["OpenSpan", "StuckTrace", "Trace", "group"]

# The upper bits of a transaction id of Braintrust; then come 32 bits for the second of the write, and a counter.
_XACT = 0x0DE1


@dataclass(frozen=True)
class OpenSpan:
    """A span that is open and may be closed.

    Attributes:
        identity: what a closing row needs.
        place: where it was started, such as ``app.py:42 in search``; None if its start row does not say.
        end: the last activity in its own subtree, in seconds since the epoch.
    """

    identity: Row = field(repr=False)
    name: str
    place: str | None
    start: float | None
    end: float
    depth: int
    cause: Cause

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.identity["id"], "span_id": self.identity["span_id"], "name": self.name, "place": self.place,
            "start": self.start, "end": self.end, "cause": self.cause.value,
        }


@dataclass(frozen=True)
class StuckTrace:
    """A trace that is open and quiet. Times are in seconds since the epoch.

    Attributes:
        last_activity: when anything last happened in the trace.
        open_spans: innermost first; those that are open on purpose are not among them.
        spans: how many spans the trace has.
    """

    root_span_id: str
    name: str
    where: LogObject
    start: float | None
    last_activity: float
    open_spans: Sequence[OpenSpan]
    spans: int
    cause: Cause

    def to_json(self) -> dict[str, Any]:
        """The trace as JSON values, its cause as a word and as a sentence."""
        return {
            "root_span_id": self.root_span_id, "name": self.name, "project": self.where.name, "kind": self.where.kind,
            "object_id": self.where.id, "start": self.start, "last_activity": self.last_activity,
            "cause": self.cause.value, "likely_cause": self.cause.sentence, "spans": self.spans,
            "open_spans": [span.to_json() for span in self.open_spans],
        }


class Node:
    """What is kept of a span: little, as a trace may have very many."""

    __slots__ = ("children", "depth", "error", "is_open", "kept", "last", "parents", "row", "start", "subtree")

    def __init__(self, row: Row) -> None:
        metrics, about = _mapping(row.get("metrics")), _mapping(row.get("trace_guard"))
        self.is_open = not has_ended(row)
        self.parents: list[str] = [str(parent) for parent in row.get("span_parents") or () if parent]
        self.start = number(metrics.get("start"))
        self.error = row.get("error") is not None
        times = (self.start, number(metrics.get("end")), number(about.get("heartbeat")))
        self.last = max((moment for moment in times if moment is not None), default=created_at(row))
        self.kept = about.get("durable") is True or is_kept_open(about)
        self.row = row if self.is_open else None
        self.children: list[str] = []
        self.subtree = self.last
        self.depth = 0


class Trace:
    """The spans of one trace of one object."""

    def __init__(self, root_span_id: str) -> None:
        self.root_span_id = root_span_id
        self.nodes: dict[str, Node] = {}
        self.last_activity = 0.0
        self._name = ("", float("inf"))

    def add(self, row: Row) -> None:
        node = Node(row)
        self.nodes[str(row.get("span_id"))] = node
        self.last_activity = max(self.last_activity, node.last, _written_at(row))
        rank = (0.0 if not node.parents else 1e18) + (node.start or created_at(row))
        if not self._name[0] or rank < self._name[1]:
            self._name = (_name(row), rank)

    def first_open(self, since: float) -> str | None:
        """The id of the first open span that was created after ``since``: the one by which the trace is counted."""
        rows = [node.row for node in self.nodes.values() if node.row is not None and created_at(node.row) >= since]
        return min(((created_at(row), str(row["id"])) for row in rows), default=(0.0, None))[1]

    def stuck(self, where: LogObject, logged: set[str]) -> StuckTrace | None:
        """The trace with the spans that may be closed; None if there are none.

        Args:
            logged: the ``span_id`` of each open span on which an output has been logged.
        """
        self._link()
        kept = self._kept()
        found = causes(self.nodes, logged)
        spans = [
            OpenSpan(identity_of(node.row, where), _name(node.row), place_of(node.row), node.start, node.subtree,
                     node.depth, found[span_id])
            for span_id, node in self.nodes.items() if node.row is not None and span_id not in kept
        ]
        if not spans:
            return None
        spans.sort(key=lambda span: (-span.depth, -(span.start or 0.0), str(span.identity["id"])))
        starts = [node.start for node in self.nodes.values() if node.start is not None]
        return StuckTrace(
            self.root_span_id, self._name[0], where, min(starts, default=None), self.last_activity, spans,
            len(self.nodes), cause_of_trace([span.cause for span in spans]),
        )

    def lonely(self) -> bool:
        """True if the trace is one open span, so that only its output tells if its code has gone on."""
        return len(self.nodes) == 1

    def _link(self) -> None:
        """Give each span its children, depth, and the last activity of its subtree."""
        for node in self.nodes.values():
            node.children, node.subtree, node.depth = [], node.last, 0
        tops = []
        for span_id, node in self.nodes.items():
            known = [parent for parent in node.parents if parent in self.nodes and parent != span_id]
            for parent in known:
                self.nodes[parent].children.append(span_id)
            if not known:
                tops.append(span_id)
        # Level by level from the top. Spans whose parents form a circle are not reached, and stay as they are.
        reached, level, depth = dict.fromkeys(tops), tops, 0
        while level:
            depth += 1
            level = [child for span_id in level for child in self.nodes[span_id].children if child not in reached]
            for span_id in level:
                reached[span_id] = None
                self.nodes[span_id].depth = depth
        for span_id in reversed(reached):
            node = self.nodes[span_id]
            for parent in node.parents:
                if parent in self.nodes:
                    self.nodes[parent].subtree = max(self.nodes[parent].subtree, node.subtree)

    def _kept(self) -> set[str]:
        """The spans that are open on purpose: those with a mark, and what is above them. What is below a span that
        :func:`keep_open` has marked is left alone too; below a durable one the processes of its steps may have died."""
        kept: set[str] = set()
        for span_id, node in self.nodes.items():
            if node.row is not None and node.kept:
                self._walk(span_id, lambda one: one.parents, kept)
                if is_kept_open(_mapping(node.row.get("trace_guard"))):
                    self._walk(span_id, lambda one: one.children, kept)
        return kept

    def _walk(self, span_id: str, following: Callable[[Node], list[str]], into: set[str]) -> None:
        waiting, seen = [span_id], set[str]()
        while waiting:
            current = waiting.pop()
            if current in self.nodes and current not in seen:
                seen.add(current)
                waiting += following(self.nodes[current])
        into |= seen


def group(rows: Iterable[Row]) -> Iterator[Trace]:
    """The traces of the rows, which may come in any order."""
    traces: dict[str, Trace] = {}
    for row in rows:
        root = str(row.get("root_span_id") or row.get("span_id"))
        traces.setdefault(root, Trace(root)).add(row)
    yield from traces.values()


def identity_of(row: Row, where: LogObject) -> Row:
    """What a closing row needs of a span: its ids and those of its object."""
    owner = {key: row[key] for key in OBJECT_KEYS if row.get(key) is not None}
    if where.kind == "project_logs":
        owner = {"project_id": where.id, "log_id": "g", **owner}
    elif "experiment_id" not in owner:
        owner["experiment_id"] = where.id
    ids = {key: row.get(key) for key in ("id", "span_id", "root_span_id", "span_parents")}
    start = number(_mapping(row.get("metrics")).get("start"))
    return {**owner, **ids, **({} if start is None else {"metrics": {"start": start}})}


def place_of(row: Row) -> str | None:
    """Where a span was started: file, line and function."""
    context = _mapping(row.get("context"))
    name, line = context.get("caller_filename"), context.get("caller_lineno")
    if isinstance(name, str) and name:
        function = context.get("caller_functionname")
        # A path of the machine that has run the code says little; its end says enough.
        short = "/".join(name.replace("\\", "/").split("/")[-2:])
        at = f"{short}:{line}" if number(line) is not None else short
        return f"{at} in {function}" if isinstance(function, str) and function not in ("", "<module>") else at
    opened = _mapping(row.get("trace_guard")).get("opened_at")
    return opened if isinstance(opened, str) else None


def _written_at(row: Row) -> float:
    """The second in which a row was last written; 0 if its transaction does not say, or if the writer was the reaper,
    whose writes are no activity."""
    about = _mapping(row.get("trace_guard"))
    try:
        xact = int(row.get("_xact_id") or 0)
    except (TypeError, ValueError):
        return 0.0
    if xact >> 48 != _XACT or about.get("closed_by") == "reaper":
        return 0.0
    return float(xact >> 16 & 0xFFFFFFFF)


def _name(row: Row) -> str:
    name = _mapping(row.get("span_attributes")).get("name")
    return name if isinstance(name, str) and name else "(unnamed)"


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
