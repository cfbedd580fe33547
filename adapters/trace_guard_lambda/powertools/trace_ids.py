"""The ids of the trace on the lines of a log."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from trace_guard.contain import contain, contained
from trace_guard.invocation.invocation import live_invocation
from trace_guard.runtime.state import PROCESS

__all__ = ["SPAN_ID", "TRACE_ID", "inject_trace_context"]

L = TypeVar("L")

TRACE_ID = "braintrust_trace_id"
SPAN_ID = "braintrust_span_id"


def inject_trace_context(logger: L) -> L:
    """Have every line that a Powertools ``Logger`` writes in a guarded invocation carry ``braintrust_trace_id`` and
    ``braintrust_span_id``, those of the span that is current where the line is logged::

        logger = inject_trace_context(Logger())

    Lines of its child loggers have them too, and lines that wait in its buffer (a child's buffer is its own: call it
    for the child as well). Lines outside a guarded invocation have neither. It goes with
    ``@logger.inject_lambda_context`` in any order, also with ``clear_state=True``, and it may be called more than
    once. Keys of these names that are passed with a line are left as they are. Where the logger writes is unchanged.

    Returns:
        the logger itself.
    """
    with contain("put the ids of traces on the lines of a log"):
        for handler in _handlers(logger):
            if not any(isinstance(one, _TraceIds) for one in handler.filters):
                handler.addFilter(_TraceIds())
        _mark_buffered(getattr(logger, "_buffer_cache", None))
    return logger


class _TraceIds(logging.Filter):
    """A filter of the handler, not of the logger: that is asked for the lines of child loggers as well. And what it
    puts on a record outlives ``clear_state``, which empties the keys of the formatter."""

    def filter(self, record: logging.LogRecord) -> bool:
        for key, value in _ids().items():
            record.__dict__.setdefault(key, value)
        return True


def _ids() -> dict[str, str]:
    return contained("read the ids of the current span", _current_ids, {})


def _current_ids() -> dict[str, str]:
    invocation = live_invocation()
    if invocation is None:
        return {}
    import braintrust  # an invocation is live, so that it has been imported

    span: Any = braintrust.current_span()
    if span is PROCESS.sdk.no_span:
        span = invocation.span
    return {TRACE_ID: span.root_span_id, SPAN_ID: span.span_id} if span.span_id else {}


def _handlers(logger: Any) -> list[logging.Handler]:
    """The logger's handlers; for a child those of the nearest parent that has any."""
    node: logging.Logger | None = logging.getLogger(logger.name)
    while node is not None and not node.handlers:
        node = node.parent
    return [] if node is None else node.handlers


def _mark_buffered(cache: Any) -> None:
    """A line that is buffered becomes a record when the buffer is flushed, and by then another span may be current.
    So its ids are added to what waits."""
    add: Callable[[str, dict[str, Any]], None] | None = getattr(cache, "add", None)
    if add is None or getattr(add, "marks_trace_ids", False):
        return

    def marking(key: str, item: dict[str, Any]) -> None:
        with contain("put the ids of a trace on a line that is buffered"):
            item["extra"] = {**_ids(), **(item.get("extra") or {})}
        add(key, item)

    marking.marks_trace_ids = True  # type: ignore[attr-defined]
    cache.add = marking
