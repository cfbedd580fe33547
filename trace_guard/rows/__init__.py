"""The rows that Braintrust stores, and the closing row, with which every failure is handled.

A *row* is a JSON object with an ``id`` that is unique within its owner: project logs, an experiment or a dataset. A
*span row* also has a ``span_id``. A later update of a span is another row with the same ``id`` and ``_is_merge: true``,
which the server merges deeply into the stored row.

Every span row is sent as a merge, because a row without ``_is_merge`` *replaces* the stored one. A start row that
arrives late or twice would then re-open an ended span and drop its output. With merges, order and repetition do not
matter for fields that are written once.
"""

from __future__ import annotations

from .encoding import dump, dump_fast, split_rows
from .reduced import lifecycle, without_payload
from .row import (
    ERROR_LIMIT,
    OBJECT_KEYS,
    Row,
    RowKey,
    about_end,
    about_of,
    bounded_error,
    closing_row,
    correction,
    durable,
    has_ended,
    identity,
    is_durable,
    is_forced,
    is_kept_open,
    is_left,
    is_log_row,
    is_open_on_purpose,
    is_span_row,
    link_row,
    merge,
    metric,
    number,
    opened_at,
    place_in,
    row_key,
    started_at,
    visible,
)

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
    "dump",
    "dump_fast",
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
    "lifecycle",
    "link_row",
    "merge",
    "metric",
    "number",
    "opened_at",
    "place_in",
    "row_key",
    "split_rows",
    "started_at",
    "visible",
    "without_payload",
]
