"""Spans of other states than the global one. Their rows go through their own state, to another destination."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Any

import braintrust.logger as bt

from ..contain import contain, logger
from ..deadline import Deadline
from ..system.threads import QuietThread
from .call_state import CallState

__all__ = ["close_elsewhere", "is_elsewhere", "is_open"]


def is_elsewhere(span: Any) -> bool:
    """True for a span of another state."""
    return getattr(span, "state", bt._state) is not bt._state


def is_open(span: Any) -> bool:
    """True if the span has not been ended."""
    return not getattr(span, "_logged_end_time", None)


def close_elsewhere(spans: Iterable[Any], end: float, about: Mapping[str, Any], deadline: Deadline) -> None:
    """End the spans that are open, innermost first, and have their states send them.

    Args:
        end: in seconds since the epoch.
        about: for ``metadata.trace_guard``.
        deadline: when to stop waiting. Other states send with the network, without a bound of their own.
    """
    spans = list(spans)
    open_spans = [span for span in spans if is_open(span)]
    for span in reversed(open_spans):
        with contain("close a span of another state"):
            span.log_internal({"metadata": {"trace_guard": dict(about)}}, {"metrics": {"end": end}})
    states = {id(span.state): span.state for span in spans if not isinstance(span.state, CallState)}
    sending = [QuietThread(target=_flush, args=(state,), daemon=True) for state in states.values()]
    for thread in sending:
        thread.start()
    for thread in sending:
        thread.join(min(deadline.remaining, threading.TIMEOUT_MAX))


def _flush(state: Any) -> None:
    try:
        state.flush()
    except Exception as error:  # noqa: BLE001 - as in the SDK's own thread, nobody else would see it
        logger.debug("the flush of another state raised: %s", error)
