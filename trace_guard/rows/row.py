"""What a row says, and the rows that the guard makes."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, Protocol, TypeAlias

from ..outcome import ClosedBy, Outcome
from ..redaction.outside_text import cut_middle

__all__ = [
    "ERROR_LIMIT",
    "OBJECT_KEYS",
    "Row",
    "RowKey",
    "about_end",
    "about_of",
    "bounded_error",
    "closing_row",
    "correction",
    "durable",
    "has_ended",
    "identity",
    "is_durable",
    "is_forced",
    "is_kept_open",
    "is_left",
    "is_log_row",
    "is_open_on_purpose",
    "is_span_row",
    "link_row",
    "merge",
    "metric",
    "number",
    "opened_at",
    "place_in",
    "row_key",
    "started_at",
    "visible",
]

Row: TypeAlias = dict[str, Any]
RowKey: TypeAlias = tuple[Any, ...]


class InvocationIds(Protocol):
    """The ids of an invocation's root: of its row, its span and its trace."""

    @property
    def root(self) -> str: ...

    @property
    def span_id(self) -> str: ...

    @property
    def root_span_id(self) -> str: ...


OBJECT_KEYS = ("org_id", "project_id", "experiment_id", "dataset_id", "prompt_session_id", "log_id")
"""The fields that name the owner of a row. The ``id`` of a row is unique within its owner."""

_FIRST_WINS = ("created", "span_id", "root_span_id", "span_parents", "_parent_id")
# The marks of a forced close.
_MARKS = ("outcome", "closed_by", "reason", "running", "opened_at")
ERROR_LIMIT = 16 * 1024
"""The maximum length of an error's text, in characters. A traceback of a hundred frames fits. Longer texts come from
data in an exception or from a recursion, and every row that repeats them costs as much again."""


def row_key(row: Mapping[str, Any]) -> RowKey:
    """The identity of a row on the server: its owner and its ``id``."""
    return (*(row.get(key) for key in OBJECT_KEYS), row.get("id"))


def is_span_row(row: Mapping[str, Any]) -> bool:
    """True for a span row that may be sent as a merge. False for datasets, feedback and deletes, and for rows with
    which the server does not merge deeply: they are never combined or rewritten."""
    if not row.get("span_id") or row.get("dataset_id"):
        return False
    return not ("_object_delete" in row or "_merge_paths" in row or "_array_delete" in row)


def is_log_row(row: Mapping[str, Any]) -> bool:
    """True for a row of project logs; those of experiments, datasets and playgrounds are often read back at once."""
    return not (row.get("experiment_id") or row.get("dataset_id") or row.get("prompt_session_id"))


def metric(row: Mapping[str, Any], name: str) -> float | None:
    """A finite number of the row's ``metrics``, else None."""
    metrics = row.get("metrics")
    return number(metrics.get(name)) if isinstance(metrics, dict) else None


def number(value: object) -> float | None:
    """The value as a float if it is a finite number, else None."""
    if value is None:
        return None
    if type(value) is not float:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        try:
            value = float(value)
        except OverflowError:
            return None
    return value if math.isfinite(value) else None


def started_at(row: Mapping[str, Any]) -> float | None:
    """When the span started, in seconds since the epoch; None if the row has no start."""
    return metric(row, "start")


def has_ended(row: Mapping[str, Any]) -> bool:
    """True if the row ends its span. Braintrust shows a span as in progress until ``metrics.end`` is set."""
    return metric(row, "end") is not None


def opened_at(row: Mapping[str, Any]) -> str | None:
    """Where the span was started, such as ``app.py:42 in search``; None if the row does not say.

    Args:
        row: the start row of a span, or a row that :func:`closing_row` has given the place.
    """
    known = about_of(row).get("opened_at")
    return known if isinstance(known, str) else place_in(row.get("context"))


def place_in(context: object, *, with_function: bool = True) -> str | None:
    """The place that the ``context`` of a start row names, such as ``app.py:42 in search``; None if it names none."""
    path = context.get("caller_filename") if isinstance(context, dict) else None
    if not isinstance(context, dict) or not isinstance(path, str) or not path:
        return None
    line, function = context.get("caller_lineno"), context.get("caller_functionname")
    place = path[max(path.rfind("/"), path.rfind("\\")) + 1 :]
    if isinstance(line, int):
        place += f":{line}"
    if with_function and isinstance(function, str) and function not in ("", "<module>"):
        place += f" in {function}"
    return place


def merge(into: Row, row: Mapping[str, Any]) -> Row:
    """Merge ``row`` into ``into`` in place, by the server's rules.

    Objects are merged deeply and ``tags`` as a set. The span's ids and ``created`` come from the first row that has
    them, all other values from the last one.
    """
    for key, value in row.items():
        if key in _FIRST_WINS and into.get(key) is not None:
            continue
        old = into.get(key)
        if key == "tags" and isinstance(old, list) and isinstance(value, list):
            into[key] = old + [tag for tag in value if tag not in old]
        else:
            into[key] = _merged(old, value)
    return into


def _merged(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        merged = dict(old)
        for key, value in new.items():
            merged[key] = _merged(merged.get(key), value)
        return merged
    return new


def identity(row: Mapping[str, Any]) -> Row:
    """The part of a span row that is needed to close the span: ids, parents, owner and start, without payload."""
    kept: Row = {key: row[key] for key in OBJECT_KEYS if row.get(key) is not None}
    for key in ("id", "span_id", "root_span_id", "span_parents"):
        kept[key] = row.get(key)
    start = started_at(row)
    if start is not None:
        kept["metrics"] = {"start": start}
    return kept


def closing_row(
    span: Mapping[str, Any],
    *,
    end: float,
    outcome: Outcome,
    closed_by: ClosedBy | None = None,
    reason: str | None = None,
    error: str | None = None,
    place: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Row:
    """Make the row that closes a span.

    Args:
        span: a row or an :func:`identity` of the span.
        end: when the span ended, in seconds since the epoch.
        closed_by: what closed the span, if not its own code. Statistics can filter on this field.
        reason: the reason of a forced close, in one word.
        error: the span's ``error`` field, or None to leave it alone.
        place: where the span was started, as :func:`opened_at` gives it.
        facts: more facts for ``metadata.trace_guard``.
    """
    about: Row = {"outcome": outcome.value}
    if closed_by is not None:
        about["closed_by"] = closed_by.value
    if reason is not None:
        about["reason"] = reason
    if place is not None:
        about["opened_at"] = place
    about.update(facts or {})
    row: Row = {**identity(span), "_is_merge": True, "metrics": {"end": end}, "metadata": {"trace_guard": about}}
    if error is not None:
        row["error"] = bounded_error(error)
    return row


def link_row(span: Mapping[str, Any], invocation: InvocationIds) -> Row:
    """The row that names on a span of another object the invocation that has started it.

    Args:
        span: a row or an :func:`identity` of the span.
    """
    ids = {"id": invocation.root, "span_id": invocation.span_id, "root_span_id": invocation.root_span_id}
    row: Row = {**identity(span), "_is_merge": True, "metadata": {"trace_guard": {"invocation": ids}}}
    row.pop("metrics", None)
    return row


def bounded_error(text: str) -> str:
    """Cut an error's text for a span. A long text keeps its beginning and end, and says how much is missing."""
    return cut_middle(text, ERROR_LIMIT)


def correction(span: Mapping[str, Any], own_end: Mapping[str, Any]) -> Row:
    """Make the merge row that undoes a forced close: the real end, and null for each mark.

    Args:
        span: a row or an :func:`identity` of the span.
        own_end: a row in which the span's own code gives its end.
    """
    return {
        **identity(span),
        "_is_merge": True,
        "metrics": {"end": metric(own_end, "end")},
        "metadata": {"trace_guard": {**dict.fromkeys(_MARKS), **about_of(own_end)}},
    }


def about_end(row: Mapping[str, Any]) -> Row:
    """The part of a row that describes the end of its span: end, error and the guard's metadata."""
    kept: Row = {}
    if has_ended(row):
        kept["metrics"] = {"end": metric(row, "end")}
    if row.get("error") is not None:
        kept["error"] = row["error"]
    if about := about_of(row):
        kept["metadata"] = {"trace_guard": dict(about)}
    return kept


def is_forced(row: Mapping[str, Any]) -> bool:
    """True if the row is a forced close: the span's own code had left it open."""
    return about_of(row).get("closed_by") is not None


def is_left(row: Mapping[str, Any]) -> bool:
    """True if the row closes a span because its invocation is over or nothing happened in it, while the span's own
    code may still end it."""
    return about_of(row).get("reason") in ("left_open", "late", "no_activity")


def visible(row: Row) -> Row:
    """The row without the null marks that a correction leaves."""
    metadata = row.get("metadata")
    about = metadata.get("trace_guard") if isinstance(metadata, dict) else None
    if not isinstance(about, dict) or None not in about.values():
        return row
    about = {name: value for name, value in about.items() if value is not None}
    metadata = {name: value for name, value in row["metadata"].items() if name != "trace_guard"}
    if about:
        metadata["trace_guard"] = about
    row = {name: value for name, value in row.items() if name != "metadata" and (name != "error" or value is not None)}
    return {**row, "metadata": metadata} if metadata else row


def about_of(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The guard's part of a row's metadata; empty if there is none."""
    metadata = row.get("metadata")
    about = metadata.get("trace_guard") if isinstance(metadata, dict) else None
    return about if isinstance(about, dict) else {}


def durable(row: Row) -> Row:
    """Mark the row's span as one that outlives the processes in which its children run.

    Recovery and the end of a process leave such a span open. The mark is a separate field that is written once, so the
    order of the span's rows does not matter.
    """
    metadata = row.get("metadata") or {}
    return {**row, "metadata": {**metadata, "trace_guard": {**(metadata.get("trace_guard") or {}), "durable": True}}}


def is_durable(row: Mapping[str, Any]) -> bool:
    """True if the row carries the mark of :func:`durable`."""
    return about_of(row).get("durable") is True


def is_open_on_purpose(row: Mapping[str, Any]) -> bool:
    """True if the row carries the mark of :func:`durable`, or one of ``keep_open`` that has not expired. The span is
    then not closed with its invocation or process."""
    about = about_of(row)
    return about.get("durable") is True or is_kept_open(about)


def is_kept_open(about: Mapping[str, Any]) -> bool:
    """True if the guard's part of a span's metadata carries a mark of :func:`keep_open` that has not expired."""
    mark = about.get("keep_open")
    if not isinstance(mark, dict):
        return False
    until = number(mark.get("until"))
    return until is None or until > time.time()
