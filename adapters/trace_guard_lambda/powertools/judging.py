"""Says more of an invocation when its result is known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trace_guard import Invocation
from trace_guard.contain import contain

__all__ = ["judge_also"]


def judge_also(invocation: Invocation, judge: Callable[[Invocation, Any], object]) -> None:
    """Have ``judge`` called with the handler's result, before whoever judges it already: the first error that is
    noted stands, and the more particular one is to be the first."""
    before = invocation.judge

    def both(invocation: Invocation, result: Any) -> None:
        with contain("judge the result"):
            judge(invocation, result)
        if before is not None:
            before(invocation, result)

    invocation.judge = both
