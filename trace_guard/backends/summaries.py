"""Summarises stored rows for people: one summary for each trace, and the spans of a trace as a tree.

The input is one merged dictionary for each span. Anyone with a key can write rows, so no shape is assumed: missing
fields and fields of odd types count as unknown.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "SpanSummary", "TraceSummary", "closed_by_of", "end_of", "is_top", "name_of", "one_line", "outcome_of",
    "project_of", "root_id_of", "spans_of", "start_of", "summarize",
]

UNNAMED = "(unnamed)"


@dataclass(frozen=True)
class TraceSummary:
    """One trace. Times are in seconds since the epoch.

    Attributes:
        project: the name of the project or experiment if it is known, else the id.
        end: when the last span ended; None while the trace is in progress.
        in_progress: a span has not ended.
        outcome: the guard's outcome, else ``ok`` or ``error`` by the root span; None while the root is open.
        error: the root span's error in one line.
        spans: the number of stored spans.
        open_spans: how many of them have not ended.
        parts: how many steps of a job, or records of a batch, the root has counted.
        failed_parts: how many of them failed.
    """

    root_span_id: str
    name: str
    project: str | None
    start: float | None
    end: float | None
    in_progress: bool
    outcome: str | None
    error: str | None
    spans: int
    open_spans: int
    parts: int = 0
    failed_parts: int = 0

    def to_json(self) -> dict[str, Any]:
        """The attributes above as JSON values, in their order; the last two only if there are parts."""
        found = dict(vars(self))
        if not self.parts:
            del found["parts"], found["failed_parts"]
        return found


@dataclass(frozen=True)
class SpanSummary:
    """One span. Times are in seconds since the epoch, the duration in seconds; None if unknown.

    Attributes:
        parent: the parent's ``span_id``, which may not be stored.
        error: the error in full.
        closed_by: what closed the span if not its own code; see :class:`trace_guard.outcome.ClosedBy`.
        reason: why, in one word.
        depth: the number of stored ancestors.
        input, output, metadata: as they were logged; None if they were not.
    """

    id: str | None
    span_id: str
    root_span_id: str
    parent: str | None
    name: str
    type: str | None
    start: float | None
    end: float | None
    duration: float | None
    error: str | None
    outcome: str | None
    closed_by: str | None
    reason: str | None
    depth: int
    input: Any = None
    output: Any = None
    metadata: Any = None

    @property
    def opened_at(self) -> str | None:
        """Where the span was started, such as ``app.py:42 in search``, if its code did not close it."""
        metadata = self.metadata if isinstance(self.metadata, Mapping) else {}
        return _text(_object(metadata, "trace_guard").get("opened_at"))

    def to_json(self) -> dict[str, Any]:
        """The attributes above as JSON values, in their order; of the last three those that were logged."""
        logged = ("input", "output", "metadata")
        return {name: value for name, value in vars(self).items() if value is not None or name not in logged}


def summarize(
    rows: Iterable[Mapping[str, Any]], project_names: Mapping[str, str] | None = None
) -> list[TraceSummary]:
    """The traces of the rows, newest first. Traces without a start come last.

    Args:
        rows: rows of any traces in any order. Rows that are not spans are ignored.
        project_names: names by project id.
    """
    traces: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        root_span_id = root_id_of(row)
        if root_span_id is not None:
            traces[root_span_id].append(row)
    summaries = [_summary(root, spans, project_names or {}) for root, spans in traces.items()]
    return sorted(summaries, key=_recency, reverse=True)


def spans_of(rows: Iterable[Mapping[str, Any]], root_span_id: str) -> list[SpanSummary]:
    """The spans of one trace as a tree, siblings ordered by start. A span whose parent is not stored has depth 0."""
    spans = sorted((row for row in rows if root_id_of(row) == root_span_id), key=_start_order)
    stored = {str(row["span_id"]) for row in spans}
    children: dict[str | None, list[int]] = defaultdict(list)
    for index, row in enumerate(spans):
        parents = [parent for parent in _parents(row) if parent in stored and parent != row["span_id"]]
        children[parents[0] if parents else None].append(index)

    found: list[SpanSummary] = []
    placed: set[int] = set()

    def place(tops: Iterable[int]) -> None:
        # An explicit stack, as a trace may be deeper than Python's recursion limit.
        waiting = [(index, 0) for index in reversed(list(tops))]
        while waiting:
            index, depth = waiting.pop()
            if index in placed:
                continue
            placed.add(index)
            row = spans[index]
            found.append(_span_summary(row, root_span_id, depth))
            waiting.extend((child, depth + 1) for child in reversed(children.get(str(row["span_id"]), ())))

    place(children[None])
    for index in range(len(spans)):
        # The remaining spans have parents in a cycle, so none of them is a root.
        place([index])
    return found


def root_id_of(row: Mapping[str, Any]) -> str | None:
    """The id of the trace that a row belongs to; None for rows that are not spans."""
    span_id = _text(row.get("span_id"))
    return (_text(row.get("root_span_id")) or span_id) if span_id is not None else None


def project_of(row: Mapping[str, Any]) -> str | None:
    """The id of the project, experiment or playground that a row belongs to."""
    owners = (_text(row.get(key)) for key in ("project_id", "experiment_id", "prompt_session_id"))
    return next((owner for owner in owners if owner is not None), None)


def start_of(row: Mapping[str, Any]) -> float | None:
    """``metrics.start`` of a row in seconds since the epoch, if it is a finite number."""
    return _number(_object(row, "metrics").get("start"))


def end_of(row: Mapping[str, Any]) -> float | None:
    """``metrics.end`` of a row in seconds since the epoch, if it is a finite number. A span without it is open."""
    return _number(_object(row, "metrics").get("end"))


def name_of(row: Mapping[str, Any]) -> str:
    """The span's name."""
    return _text(_object(row, "span_attributes").get("name")) or UNNAMED


def outcome_of(row: Mapping[str, Any]) -> str | None:
    """The guard's outcome, else ``ok`` or ``error``; None while the span is open."""
    return _outcome(row, _about(row), end_of(row))


def closed_by_of(row: Mapping[str, Any]) -> str | None:
    """What closed the span if not its own code; see :class:`trace_guard.outcome.ClosedBy`."""
    return _text(_about(row).get("closed_by"))


def _outcome(row: Mapping[str, Any], about: Mapping[str, Any], end: float | None) -> str | None:
    tagged = _text(about.get("outcome"))
    if tagged is not None:
        return tagged
    if row.get("error"):
        return "error"
    return "ok" if end is not None else None


def is_top(row: Mapping[str, Any]) -> bool:
    """True for a span without a parent."""
    return not _parents(row)


def _summary(
    root_span_id: str, spans: list[Mapping[str, Any]], project_names: Mapping[str, str]
) -> TraceSummary:
    spans = sorted(spans, key=_start_order)
    root = next((row for row in spans if not _parents(row)), spans[0])
    ends = [end_of(row) for row in spans]
    open_spans = ends.count(None)
    parts, failed = _parts(root)
    project = project_of(root)
    return TraceSummary(
        root_span_id=root_span_id,
        name=name_of(root),
        project=project_names.get(project, project) if project is not None else None,
        start=start_of(root) if start_of(root) is not None else start_of(spans[0]),
        end=None if open_spans else max((end for end in ends if end is not None), default=None),
        in_progress=open_spans > 0,
        outcome=outcome_of(root),
        error=one_line(_error_text(root.get("error"))),
        spans=len(spans),
        open_spans=open_spans,
        parts=parts,
        failed_parts=failed,
    )


def _parts(root: Mapping[str, Any]) -> tuple[int, int]:
    """How many steps and records a root has counted, and how many of them failed."""
    metadata = _object(root, "metadata")
    counted = (_object(_object(metadata, "job"), "steps"), _object(metadata, "records"))
    ends = [(end, _number(number) or 0) for counts in counted for end, number in counts.items()]
    return int(sum(number for _, number in ends)), int(sum(number for end, number in ends if end == "failed"))


def _span_summary(row: Mapping[str, Any], root_span_id: str, depth: int) -> SpanSummary:
    start, end = start_of(row), end_of(row)
    about = _about(row)
    parents = _parents(row)
    return SpanSummary(
        id=_text(row.get("id")),
        span_id=str(row["span_id"]),
        root_span_id=root_span_id,
        parent=parents[0] if parents else None,
        name=name_of(row),
        type=_text(_object(row, "span_attributes").get("type")),
        start=start,
        end=end,
        duration=end - start if start is not None and end is not None else None,
        error=_error_text(row.get("error")),
        outcome=_outcome(row, about, end),
        closed_by=_text(about.get("closed_by")),
        reason=_text(about.get("reason")),
        depth=depth,
        input=row.get("input"),
        output=row.get("output"),
        metadata=row.get("metadata"),
    )


def _error_text(error: object) -> str | None:
    if not error:
        return None
    return error if isinstance(error, str) else json.dumps(error, default=str)


def one_line(error: str | None) -> str | None:
    """The most informative line of an error: the exception of a traceback, else the first line."""
    lines = [line.rstrip() for line in (error or "").splitlines() if line.strip()]
    if not lines:
        return None
    headers = [at for at, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if not headers or headers[0] > 0:
        return lines[0].strip()
    # The exception comes after the indented frames; a message of several lines may follow it.
    said = (line for line in lines[headers[-1] + 1 :] if not line[0].isspace())
    return next(said, lines[-1].strip())


def _about(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return _object(_object(row, "metadata"), "trace_guard")


def _parents(row: Mapping[str, Any]) -> list[str]:
    parents = row.get("span_parents")
    return [parent for parent in parents if isinstance(parent, str)] if isinstance(parents, list) else []


def _start_order(row: Mapping[str, Any]) -> float:
    start = start_of(row)
    return math.inf if start is None else start


def _recency(trace: TraceSummary) -> float:
    return -math.inf if trace.start is None else trace.start


def _object(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = row.get(key)
    # Parsed JSON is a dict, which is quicker to check for than the abstract class.
    return value if isinstance(value, (dict, Mapping)) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _number(value: object) -> float | None:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None
