"""The span of a task or of a call of an actor's method."""

from __future__ import annotations

from typing import Any

from trace_guard import Invocation
from trace_guard.invocation.invocation import NOTHING

from .context import KEYWORD
from .facts import facts
from .grouping import delivery_group
from .options import Options

__all__ = ["GuardedCall"]


class GuardedCall:
    """Makes the invocation of a call. It is pickled to the workers with the function.

    Args:
        name: of the span.
        is_method: True if the first argument is an actor, which is not part of the input.
        parent: of calls that carry no context; None for a new trace.
    """

    def __init__(self, options: Options, name: str, *, is_method: bool = False, parent: str | None = None) -> None:
        self.options = options
        self.name = name
        self._is_method = is_method
        self._parent = parent

    def with_parent(self, parent: str | None) -> GuardedCall:
        """A copy with another parent for calls that carry no context."""
        return GuardedCall(self.options, self.name, is_method=self._is_method, parent=parent)

    def __call__(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Invocation:
        options = self.options
        parent = keywords.get(KEYWORD) or self._parent
        if self._is_method:
            args = args[1:]
        keywords = {key: value for key, value in keywords.items() if key != KEYWORD}
        invocation = options.guard.invocation(
            self.name, parent=parent, input={"args": args, "kwargs": keywords} if args or keywords else NOTHING,
            metadata=options.metadata, tags=options.tags, platform=facts(),
        )
        delivery_group.add(invocation)
        return invocation
