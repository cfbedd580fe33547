"""Whether the SDK makes rows, which must not wait for the network, or user code has called it."""

from __future__ import annotations

from contextvars import ContextVar

__all__ = ["is_making_rows", "making_rows"]

_is_making: ContextVar[bool] = ContextVar("trace_guard_makes_rows", default=False)


class making_rows:
    """``with making_rows(): ...`` has the gateway answer from what is known."""

    __slots__ = ("_token",)

    def __enter__(self) -> None:
        self._token = _is_making.set(True)

    def __exit__(self, *_: object) -> None:
        _is_making.reset(self._token)


def is_making_rows() -> bool:
    """True within :func:`making_rows`, and in threads that the SDK starts there with a copy of the context."""
    return _is_making.get()
