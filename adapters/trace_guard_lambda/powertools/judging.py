"""Adds a judgement of the result to an invocation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trace_guard import Invocation
from trace_guard.contain import contain

__all__ = ["judge_also"]


def judge_also(invocation: Invocation, judge: Callable[[Invocation, Any], object]) -> None:
    """Call ``judge`` with the handler's result, before the invocation's present judge. The invocation keeps the first
    error, so the more specific judge must run first."""
    before = invocation.judge

    def both(invocation: Invocation, result: Any) -> None:
        with contain("judge the result"):
            judge(invocation, result)
        if before is not None:
            before(invocation, result)

    invocation.judge = both
