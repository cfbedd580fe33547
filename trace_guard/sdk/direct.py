"""Takes a row where the SDK hands it to its queue, so that it is in the journal when the user's call returns."""

from __future__ import annotations

import json
import math
from typing import Any

import braintrust.logger as bt
from braintrust.span_identifier_v3 import SpanObjectTypeV3

from ..contain import logger
from ..rows import Row, dump_fast
from ..system.interruption import pass_interruption
from .making_rows import making_rows
from .masking import changes_rows
from .project_id import needs_request

__all__ = ["ended", "made"]

_PROJECT_LOGS = SpanObjectTypeV3.PROJECT_LOGS
_NOTHING: dict[str, Any] = {}
_STREAMS = getattr(bt, "BraintrustStream", ())


class _NotPlain(TypeError):
    """A value that the SDK must encode, such as an attachment."""


def made(lazy: Any, source: tuple[Any, Any, Any] | None, background: Any) -> tuple[Row, bytes] | None:
    """The row of a span and its encoding, as the SDK's publisher would make them; None if the publisher must do it.

    It must where code of the user changes rows, which may be slow; where only the network knows a value; where a value
    is not plain JSON, such as an attachment; and where the row can't be made, as it then reports that.

    Args:
        lazy: computes the row. Its result is kept, so the publisher may ask again.
        source: as :attr:`.Rescue.source`; None if the row is not a span's.
        background: would take the row.
    """
    if source is None:
        return None
    span, event, _ = source
    if not _may_make(span, background):
        return None
    for value in event.values() if event else ():
        if isinstance(value, _STREAMS):
            return None
    try:
        with making_rows():
            row: Row = lazy.get()
        return row, _encode(row)
    except Exception as error:  # noqa: BLE001 - the publisher finds it too, and reports it as it always does
        pass_interruption(error)
        logger.debug("a row is left to the SDK: %s", type(error).__name__)
        return None


def ended(span: Any, internal: dict[str, Any], background: Any) -> tuple[Row, bytes] | None:
    """The row that ends a span and says nothing else, as :func:`made` gives it. It has no value of the user's, which
    the SDK copies and checks at some cost.

    Args:
        internal: what the SDK adds to what the user logs.
    """
    end = internal.get("metrics", _NOTHING).get("end")
    if internal != {"metrics": {"end": end}} or type(end) is not float or not _may_make(span, background):
        return None
    # Another release may keep elsewhere that the span has begun, and when it ended.
    if not getattr(span, "_is_merge", False) or not hasattr(span, "_logged_end_time") or not math.isfinite(end):
        return None
    row = {
        "_is_merge": True, "id": span.id, "span_id": span.span_id, "root_span_id": span.root_span_id,
        "span_parents": span.span_parents, "metrics": {"end": end}, "project_id": span.parent_object_id.get(),
        "log_id": "g",
    }
    return row, _encode(row)


def _may_make(span: Any, background: Any) -> bool:
    """False where the SDK's publisher must make the rows of a span."""
    # Rows of an experiment are kept for its scorers, and their owner may have to be registered.
    return (
        span.parent_object_type == _PROJECT_LOGS and not needs_request(span.parent_object_id)
        and not changes_rows(background)
    )


def _refuse(value: Any) -> Any:
    raise _NotPlain(type(value).__name__)


_encode_native = json.JSONEncoder(allow_nan=False, default=_refuse, separators=(",", ":"), sort_keys=True).encode


def _encode(row: Row) -> bytes:
    return dump_fast(row) or _encode_native(row).encode()
