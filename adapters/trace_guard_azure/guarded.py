"""A guarded function: what the worker calls, and what is declared of it."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable
from typing import Any

from trace_guard.contain import contained

from .call import GuardedCall
from .declaration import NOTHING_DECLARED, Declaration
from .kinds import check_function
from .options import AzureOptions
from .wrapping import worker_function

__all__ = ["GuardedFunction", "guarded_in"]

_MARK = "__trace_guard__"


class GuardedFunction:
    """
    Attributes:
        function: the user's.
        wrapper: the function that replaces it. It is of the same kind, and only this object's mark tells it apart.
        declarations: what is declared of the function, by the names under which it is registered; nearly always one.
        is_outermost: true if the worker gets the wrapper's result, with no other decorator between.
        adds_context: true if the worker passes the context although the function does not declare it.
    """

    def __init__(self, function: Callable[..., Any], options: AzureOptions) -> None:
        self.function = function
        self.options = options
        self.declarations: dict[str | None, Declaration] = {}
        self.is_outermost = False
        self.adds_context = False
        self.wrapper = worker_function(
            function, self._run_async if inspect.iscoroutinefunction(function) else self._run
        )
        setattr(self.wrapper, _MARK, self)

    def declared_as(self, name: object) -> Declaration:
        """What is declared of the function under a name; if that is unknown, its last declaration."""
        found = self.declarations.get(name) if isinstance(name, str) else None
        return found or next(reversed(self.declarations.values()), NOTHING_DECLARED)

    @classmethod
    def of(cls, function: Any, options: AzureOptions) -> GuardedFunction | None:
        """A guarded function of an app; None if the function can't be guarded."""
        try:
            check_function(function)
        except TypeError:
            return None
        return cls(function, options)

    def _call(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[GuardedCall | None, dict[str, Any]]:
        """The call, None if it has no invocation of its own, and the keywords for the function."""
        call = contained("begin an invocation", lambda: GuardedCall.of(self, args, keywords), None)
        own = dict(keywords)
        if self.adds_context:
            own.pop("context", None)
        return call, own

    def _run(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        # In a context of its own: the threads of the worker's pool keep theirs from one invocation to the next, and a
        # streamed response outlives this call.
        return contextvars.copy_context().run(self._run_here, args, keywords)

    def _run_here(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        call, own = self._call(args, keywords)
        return self.function(*args, **own) if call is None else call.run(self.function, args, own)

    async def _run_async(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        call, own = self._call(args, keywords)
        return await (self.function(*args, **own) if call is None else call.run_async(self.function, args, own))


def guarded_in(function: Any) -> GuardedFunction | None:
    """The guard of a function, or of what other decorators have been put around; None if there is none."""
    while function is not None:
        found = getattr(function, _MARK, None)
        if isinstance(found, GuardedFunction) and found.wrapper is function:  # others copy the mark of what they wrap
            return found
        function = getattr(function, "__wrapped__", None)
    return None
