"""Rows without what the user has logged, for a disk that is nearly full and a server that has refused the whole row."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ..redaction.outside_text import printable_lines
from .row import Row, about_of, bounded_error, identity, metric

__all__ = ["lifecycle", "without_payload"]

_PAYLOAD = ("input", "output", "expected", "metadata", "context", "scores", "error")
# The most characters of an error's text.
_REDUCED_ERROR = 4 * 1024


def without_payload(row: Mapping[str, Any]) -> Row:
    """The row without the user's data, marked as cut. The fields that open or close its span stay.

    ``metadata.trace_guard`` stays too, because it describes how the span was closed.
    """
    kept = {key: value for key, value in row.items() if key not in _PAYLOAD}
    kept["metadata"] = {"trace_guard": {**about_of(row), "payload_dropped": True}}
    if row.get("error") is not None:
        kept["error"] = _reduced_error(row["error"])
    return kept


def _reduced_error(error: Any) -> str | None:
    """An error as short plain text, for a row that must be small or that the server refused."""
    if error is None:
        return None
    text = error if isinstance(error, str) else json.dumps(error, default=str)
    return printable_lines(bounded_error(text), _REDUCED_ERROR)


def lifecycle(row: Mapping[str, Any]) -> Row:
    """The minimal row that still opens or closes the span, for a server that refused the full row.

    A shortened error stays, because it is what a reader of such a span looks for.
    """
    kept = {**identity(row), "_is_merge": True}
    if isinstance(row.get("created"), str):
        kept["created"] = row["created"]
    metrics = {name: metric(row, name) for name in ("start", "end")}
    kept["metrics"] = {name: value for name, value in metrics.items() if value is not None}
    attributes = row.get("span_attributes")
    if isinstance(attributes, dict):
        kept["span_attributes"] = {
            name: attributes[name] for name in ("name", "type") if isinstance(attributes.get(name), str)
        }
    plain = without_payload(row)
    kept["metadata"] = plain["metadata"]
    if "error" in row:
        kept["error"] = plain.get("error")  # null removes the error of a forced close
    return kept
