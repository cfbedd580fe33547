"""The rows that Braintrust stores, and the one operation that every failure comes down to: a closing row.

A *row* is a JSON object with an ``id`` below the object that owns it (project logs, an experiment, a
dataset). A *span row* also has a ``span_id``. Whatever is said about a span later comes as another row with
the same ``id`` and ``_is_merge: true``, which the server merges deeply into what it has.

Why every span row is sent as a merge: a row without ``_is_merge`` *replaces* the stored one. A start row
that lands late, or twice, would so re-open a span that has ended, and take its output with it. Merged, the
order and number of arrivals don't matter for fields that are written once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from .outcome import ClosedBy, Outcome
from .outside_text import cut_middle, printable_lines

__all__ = [
    "ERROR_LIMIT",
    "Row",
    "RowKey",
    "about_end",
    "bounded_error",
    "closing_row",
    "correction",
    "dump",
    "durable",
    "has_ended",
    "identity",
    "is_durable",
    "is_forced",
    "is_span_row",
    "lifecycle",
    "merge",
    "number",
    "row_key",
    "started_at",
    "visible",
    "without_payload",
]

Row: TypeAlias = dict[str, Any]
RowKey: TypeAlias = tuple[Any, ...]

OBJECT_KEYS = ("org_id", "project_id", "experiment_id", "dataset_id", "prompt_session_id", "log_id")
"""Which object a row belongs to; a row's ``id`` is unique below these."""

_FIRST_WINS = ("created", "span_id", "root_span_id", "span_parents", "_parent_id")
# Fields by which the server does something other than merge deeply. Such rows are never folded or rewritten.
_SPECIAL = ("_object_delete", "_merge_paths", "_array_delete")
# The marks of a forced close.
_MARKS = ("outcome", "closed_by", "reason", "running")
ERROR_LIMIT = 16 * 1024
"""Most characters of an error's text. A traceback of a hundred frames fits; more than that is data that an exception
carries, or a recursion, and would cost as much again with each row that repeats it."""
# Of a row that is cut to save room, or sent again as it was refused.
_REDUCED_ERROR = 4 * 1024
_PAYLOAD = ("input", "output", "expected", "metadata", "context", "scores", "error")


def dump(row: object) -> bytes:
    """A row as compact JSON."""
    return json.dumps(row, separators=(",", ":"), default=str).encode()


def row_key(row: Mapping[str, Any]) -> RowKey:
    """What makes two rows the same one to the server."""
    return (*(row.get(key) for key in OBJECT_KEYS), row.get("id"))


def is_span_row(row: Mapping[str, Any]) -> bool:
    """True for a row of a span that may be sent as a merge; datasets, feedback and deletes are not."""
    return bool(row.get("span_id")) and not row.get("dataset_id") and not any(key in row for key in _SPECIAL)


def _metric(row: Mapping[str, Any], name: str) -> float | None:
    metrics = row.get("metrics")
    return number(metrics.get(name)) if isinstance(metrics, Mapping) else None


def number(value: object) -> float | None:
    """The value as a float, if it is a finite number; else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        value = float(value)
    except OverflowError:
        return None
    return value if math.isfinite(value) else None


def started_at(row: Mapping[str, Any]) -> float | None:
    """When the span started, in seconds since the epoch, if this row says so."""
    return _metric(row, "start")


def has_ended(row: Mapping[str, Any]) -> bool:
    """True if this row ends its span: Braintrust shows a span as in progress until ``metrics.end`` is set."""
    return _metric(row, "end") is not None


def merge(into: Row, row: Mapping[str, Any]) -> Row:
    """Merge ``row`` into ``into`` by the server's rules, in place: objects deeply, ``tags`` as a set, the span's
    ids and ``created`` from whichever row came first, all else from the later one."""
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
    if isinstance(old, dict) and isinstance(new, Mapping):
        merged = dict(old)
        for key, value in new.items():
            merged[key] = _merged(merged.get(key), value)
        return merged
    return new


def identity(row: Mapping[str, Any]) -> Row:
    """The part of a span row that is enough to close the span: ids, parents, owner and start; no payload."""
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
    facts: Mapping[str, Any] | None = None,
) -> Row:
    """The row that closes a span.

    Args:
        span: a row or an :func:`identity` of the span.
        end: when it ended, in seconds since the epoch.
        closed_by: who closed it, if it was not its own code; such spans can be filtered out of statistics.
        reason: why, in one word, for forced closes.
        error: the span's ``error`` field, or None to leave it alone.
        facts: more facts for ``metadata.trace_guard``.
    """
    about: Row = {"outcome": outcome.value}
    if closed_by is not None:
        about["closed_by"] = closed_by.value
    if reason is not None:
        about["reason"] = reason
    about.update(facts or {})
    row: Row = {**identity(span), "_is_merge": True, "metrics": {"end": end}, "metadata": {"trace_guard": about}}
    if error is not None:
        row["error"] = bounded_error(error)
    return row


def bounded_error(text: str) -> str:
    """The text of an error as it stands on a span: the beginning and the end of a long one, and how much was cut."""
    return cut_middle(text, ERROR_LIMIT)


def correction(span: Mapping[str, Any], said: Mapping[str, Any]) -> Row:
    """The merge row that takes a forced close back: the real end, and null for each mark.

    Args:
        span: a row or an :func:`identity` of the span.
        said: what the span's own code has said about its end.
    """
    return {
        **identity(span),
        "_is_merge": True,
        "metrics": {"end": _metric(said, "end")},
        "metadata": {"trace_guard": {**dict.fromkeys(_MARKS), **_about(said)}},
    }


def about_end(row: Mapping[str, Any]) -> Row:
    """The part of a row that says how its span ended: end, error and the guard's metadata."""
    kept: Row = {}
    if has_ended(row):
        kept["metrics"] = {"end": _metric(row, "end")}
    if row.get("error") is not None:
        kept["error"] = row["error"]
    if about := _about(row):
        kept["metadata"] = {"trace_guard": dict(about)}
    return kept


def is_forced(row: Mapping[str, Any]) -> bool:
    """True if the row closes a span that its own code left open."""
    return _about(row).get("closed_by") is not None


def visible(row: Row) -> Row:
    """The row without marks that are null, which a correction has left."""
    metadata = row.get("metadata")
    about = metadata.get("trace_guard") if isinstance(metadata, dict) else None
    if not isinstance(about, Mapping) or None not in about.values():
        return row
    about = {name: value for name, value in about.items() if value is not None}
    metadata = {name: value for name, value in row["metadata"].items() if name != "trace_guard"}
    if about:
        metadata["trace_guard"] = about
    row = {name: value for name, value in row.items() if name != "metadata" and (name != "error" or value is not None)}
    return {**row, "metadata": metadata} if metadata else row


def _about(row: Mapping[str, Any]) -> Mapping[str, Any]:
    metadata = row.get("metadata")
    about = metadata.get("trace_guard") if isinstance(metadata, Mapping) else None
    return about if isinstance(about, Mapping) else {}


def durable(row: Row) -> Row:
    """The row, marked as one of a span that outlives the processes that work below it.

    Such a span is never open by oversight, so that nobody closes it for the end of a process. The mark is a field of
    its own, written once: whichever of its rows arrives last, it undoes nothing.
    """
    metadata = row.get("metadata") or {}
    return {**row, "metadata": {**metadata, "trace_guard": {**(metadata.get("trace_guard") or {}), "durable": True}}}


def is_durable(row: Mapping[str, Any]) -> bool:
    """True if the row carries the mark of :func:`durable`."""
    return _about(row).get("durable") is True


def without_payload(row: Mapping[str, Any]) -> Row:
    """The row without what its user logged, but with all that opens or closes its span, marked as cut.

    ``metadata.trace_guard`` stays, as it tells how the span was closed.
    """
    kept = {key: value for key, value in row.items() if key not in _PAYLOAD}
    kept["metadata"] = {"trace_guard": {**_about(row), "payload_dropped": True}}
    if row.get("error") is not None:
        kept["error"] = _reduced_error(row["error"])
    return kept


def _reduced_error(error: Any) -> str | None:
    """An error as plain text, for a row that has to be small or that the server would not take as it was."""
    if error is None:
        return None
    text = error if isinstance(error, str) else json.dumps(error, default=str)
    return printable_lines(bounded_error(text), _REDUCED_ERROR)


def lifecycle(row: Mapping[str, Any]) -> Row:
    """What of a span row opens or closes its span, in the plainest form, for a server that refused the row. Its error
    is what such a span is looked at for: it stays, in short."""
    kept = {**identity(row), "_is_merge": True}
    if isinstance(row.get("created"), str):
        kept["created"] = row["created"]
    metrics = {name: _metric(row, name) for name in ("start", "end")}
    kept["metrics"] = {name: value for name, value in metrics.items() if value is not None}
    attributes = row.get("span_attributes")
    if isinstance(attributes, Mapping):
        kept["span_attributes"] = {
            name: attributes[name] for name in ("name", "type") if isinstance(attributes.get(name), str)
        }
    plain = without_payload(row)
    kept["metadata"] = plain["metadata"]
    if "error" in row:
        kept["error"] = plain.get("error")  # null takes a forced close's error back
    return kept


def split_rows(body: bytes) -> Iterable[tuple[Row, bytes]]:
    """The rows of a ``POST /logs3`` body, each beside the very bytes that it had there.

    Raises:
        ValueError: the body is not of the form ``{"rows": [...]}``.
    """
    text = body.decode()
    decoder = json.JSONDecoder()
    start = text.index("[", text.index('"rows"')) + 1
    while True:
        while text[start] in " \t\r\n,":
            start += 1
        if text[start] == "]":
            return
        row, end = decoder.raw_decode(text, start)
        if not isinstance(row, dict):
            raise ValueError(f"a row that is not an object: {text[start:start + 80]!r}")
        yield row, text[start:end].encode()
        start = end
