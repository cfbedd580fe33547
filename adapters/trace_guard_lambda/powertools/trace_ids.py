"""Puts trace ids on log lines."""

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
    """Add ``braintrust_trace_id`` and ``braintrust_span_id`` to every line that a Powertools ``Logger`` writes in a
    guarded invocation::

        logger = inject_trace_context(Logger())

    The ids are those of the span that is current where the line is logged. Lines of child loggers and buffered lines
    have them too. A child logger has a buffer of its own, so call this function for the child as well if it buffers.
    Lines outside a guarded invocation have no ids.

    It works with ``@logger.inject_lambda_context`` in any order, also with ``clear_state=True``, and may be called more
    than once. It does not overwrite keys of these names that are passed with a line.

    Returns:
        the logger itself.
    """
    with contain("put trace ids on log lines"):
        for handler in _handlers(logger):
            if not any(isinstance(each, _TraceIds) for each in handler.filters):
                handler.addFilter(_TraceIds())
        _mark_buffered(getattr(logger, "_buffer_cache", None))
    return logger


class _TraceIds(logging.Filter):
    """A filter on the handler, because a logger's own filters do not see the lines of child loggers. Attributes of the
    record survive ``clear_state``, which removes the formatter's keys."""

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
    import braintrust  # an invocation is live, so it has been imported

    span: Any = braintrust.current_span()
    if span is PROCESS.sdk.no_span:
        span = invocation.span
    return {TRACE_ID: span.root_span_id, SPAN_ID: span.span_id} if span.span_id else {}


def _handlers(logger: Any) -> list[logging.Handler]:
    """The handlers of the logger or of its nearest parent with handlers."""
    node: logging.Logger | None = logging.getLogger(logger.name)
    while node is not None and not node.handlers:
        node = node.parent
    return [] if node is None else node.handlers


def _mark_buffered(cache: Any) -> None:
    """Add the ids when a line enters the buffer. It becomes a record when the buffer is flushed, and another span may
    be current by then."""
    add: Callable[[str, dict[str, Any]], None] | None = getattr(cache, "add", None)
    if add is None or getattr(add, "marks_trace_ids", False):
        return

    def marking(key: str, item: dict[str, Any]) -> None:
        with contain("put trace ids on a buffered log line"):
            item["extra"] = {**_ids(), **(item.get("extra") or {})}
        add(key, item)

    marking.marks_trace_ids = True  # type: ignore[attr-defined]
    cache.add = marking
