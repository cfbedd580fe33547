"""Whether the SDK makes rows, which must not wait for the network, or user code has called it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["is_making_rows", "making_rows"]

_is_making: ContextVar[bool] = ContextVar("trace_guard_makes_rows", default=False)


@contextlib.contextmanager
def making_rows() -> Iterator[None]:
    """Within this block the gateway answers from what is known."""
    token = _is_making.set(True)
    try:
        yield
    finally:
        _is_making.reset(token)


def is_making_rows() -> bool:
    """True within :func:`making_rows`, and in threads that the SDK starts there with a copy of the context."""
    return _is_making.get()
