"""Spans that are open on purpose: they wait for a person or an event."""

from __future__ import annotations

import datetime
from typing import Any, Protocol

from ..rows import number

__all__ = ["keep_open"]


class _Span(Protocol):
    def log(self, **event: Any) -> None: ...


def keep_open(span: _Span, reason: str, until: datetime.datetime | float | None = None) -> None:
    """Mark a span that is open on purpose, for example while it waits for a person's approval.

    The end of its invocation or process then leaves it open. ``trace-guard reap`` leaves it alone, and what is above
    and below it in its trace. A span that ends is closed as usual; the mark needs no removal. The root of an
    invocation is closed nonetheless.

    Args:
        span: a span of the Braintrust SDK.
        reason: why it is open; ``trace-guard reap`` shows it.
        until: when the mark expires: a ``datetime`` (UTC if it has no time zone), or seconds since the epoch. By
            default it does not.

    Raises:
        TypeError: ``until`` is neither.
    """
    if isinstance(until, datetime.datetime):
        moment = until if until.tzinfo else until.replace(tzinfo=datetime.timezone.utc)
        until = moment.timestamp()
    if until is not None and number(until) is None:
        raise TypeError(f"until is a datetime or a number of seconds since the epoch, not {until!r}")
    span.log(metadata={"trace_guard": {"keep_open": {"reason": str(reason), "until": until}}})
