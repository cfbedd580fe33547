"""Which invocation this code runs in, and which invocations are live in this process."""

from __future__ import annotations

import contextvars
from typing import Any

__all__ = ["CURRENT", "LIVE", "current", "only_live"]

CURRENT: contextvars.ContextVar[Any] = contextvars.ContextVar("trace_guard_invocation", default=None)
"""The innermost :class:`~trace_guard.Invocation` of this context, or None."""

LIVE: set[Any] = set()
"""The invocations that have begun in this process and not ended."""


def current() -> Any:
    """The live invocation of this context, or None."""
    invocation = CURRENT.get()
    return invocation if invocation is not None and invocation.is_live else None


def only_live() -> Any:
    """:func:`current`, else the only live invocation of the process: threads of a pool have a context of their own."""
    invocation = current()
    if invocation is None:
        live = [candidate for candidate in tuple(LIVE) if candidate.is_live]
        return live[0] if len(live) == 1 else None
    return invocation
