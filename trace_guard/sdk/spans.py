"""Rows of spans that the SDK has opened."""

from __future__ import annotations

import functools
import json
import traceback
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from typing import Any

import braintrust
import braintrust.logger as bt

from ..contain import contained
from ..rows import Row
from ..system.interruption import pass_interruption
from .making_rows import making_rows
from .masking import changes_rows, user_traceback

__all__ = ["identity_of", "ignore_exceptions", "is_in_span", "leave_span", "merge_row", "no_span", "start_row"]

no_span: Any = bt.NOOP_SPAN
"""The span that does nothing."""

_MARK = "_made_by_trace_guard"
_control_flow: list[Callable[[BaseException], bool]] = []


def is_in_span() -> bool:
    """True if a span is current."""
    return braintrust.current_span() is not no_span


def identity_of(span: Any) -> Row:
    """The ids, parents and owner of a span: what a closing row needs."""
    return {
        "id": span.id, "span_id": span.span_id, "root_span_id": span.root_span_id,
        "span_parents": span.span_parents, **_object_ids(span),
    }


def start_row(span: Any, name: str, started: float, metadata: Mapping[str, Any]) -> Row:
    """The first row of a span that the SDK has opened: identity, start and metadata, no payload.

    Args:
        started: in seconds since the epoch.
    """
    return {
        "_is_merge": True,
        **identity_of(span),
        "created": datetime.fromtimestamp(started, timezone.utc).isoformat(),
        "metrics": {"start": started},
        "span_attributes": {"name": name, "type": "task"},
        "metadata": dict(metadata),
    }


def merge_row(identity: Row, event: Mapping[str, Any]) -> Row | None:
    """The row that logging ``event`` on a span makes, for who writes it to the journal directly.

    Two threads of the SDK and a request to the gateway cost several times as much. None if the SDK must make the row:
    for a masking function or a customizer, or for values that are not plain.

    Args:
        event: input and output are plain copies; see :class:`trace_guard.payload.Payload`.
    """
    if "tags" in event or changes_rows(bt._state.global_bg_logger()):
        return None
    if "project_id" not in identity or not _is_plain(event.get("metadata")):
        return None  # the SDK keeps data of experiments for scorers
    ids = {name: value for name, value in identity.items() if name != "metrics"}
    return {**ids, **{name: value for name, value in event.items() if value is not None}, "_is_merge": True}


def ignore_exceptions(is_control_flow: Callable[[BaseException], bool]) -> None:
    """Have spans end without an error when an exception passes through them that is only control flow.

    Takes effect once for a process; other exceptions are logged as ever.
    """
    if is_control_flow not in _control_flow:
        _control_flow.append(is_control_flow)
    plain = bt.SpanImpl.__exit__
    if hasattr(plain, _MARK):
        return

    @functools.wraps(plain)
    def leave(span: Any, kind: Any, error: Any, trace: Any) -> Any:
        if error is not None and _is_control_flow(error):
            kind = error = trace = None
        return plain(span, kind, error, trace)

    setattr(leave, _MARK, True)
    setattr(bt.SpanImpl, "__exit__", leave)  # noqa: B010 - its type is the SDK's to say


def _is_control_flow(error: BaseException) -> bool:
    return contained("tell an error from control flow", lambda: any(tells(error) for tells in _control_flow), False)


def leave_span(span: Any, error: BaseException | None, ended: float | None = None) -> None:
    """Log the error, restore the outer span and end the span.

    ``SpanImpl.__exit__`` does the same, but swallows a time limit that a signal handler raises meanwhile.

    Args:
        ended: in seconds since the epoch; now by default.
    """
    try:
        if error is not None and not _is_control_flow(error):
            trace = user_traceback(error.__traceback__)
            span.log(error="".join(traceback.format_exception(type(error), error, trace)))
    finally:
        try:
            _unset_current(span)
        finally:
            span.end(ended)


def _unset_current(span: Any) -> None:
    token = getattr(span, "_context_token", None)
    if token is None:
        span.unset_current()
    else:  # without the span's own method, which swallows what is raised
        span.state.context_manager.unset_current_span(token)
        span._context_token = None


def _is_plain(value: Any) -> bool:
    """True for a JSON value, which the SDK would leave as it is."""
    try:
        json.dumps(value, allow_nan=False)
    except Exception as error:  # noqa: BLE001 - a user's object may do anything when looked at
        pass_interruption(error)
        return False
    return True


def _object_ids(span: Any) -> Row:
    exporter: Any = bt._get_exporter()  # type: ignore[no-untyped-call]
    with making_rows():
        object_id = span.parent_object_id.get()
    fields: Row = exporter(object_type=span.parent_object_type, object_id=object_id).object_id_fields()
    return fields
