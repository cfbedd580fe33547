"""A guarded function: the wrapper that the worker calls, and the function's declarations."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable
from typing import Any

from trace_guard.contain import contained
from trace_guard.invocation.calls import takes_receiver

from .call import GuardedCall
from .declaration import NOTHING_DECLARED, Declaration
from .kinds import check_function
from .options import AzureOptions
from .wrapping import worker_function

__all__ = ["GuardedFunction", "guarded_in"]

_MARK = "__trace_guard__"


class GuardedFunction:
    """A user's function and the wrapper that replaces it.

    Attributes:
        function: the user's function.
        wrapper: a function of the same kind, marked with this object.
        declarations: by the names under which the function is registered; nearly always a single name.
        is_outermost: True if the worker gets the wrapper's result, with no other decorator between.
        is_method: True if the first argument is an object or a class.
        adds_context: True if the worker passes the context although the function does not declare it.
    """

    def __init__(self, function: Callable[..., Any], options: AzureOptions) -> None:
        self.function = function
        self.options = options
        self.declarations: dict[str | None, Declaration] = {}
        self.is_outermost = False
        self.is_method = takes_receiver(function)
        self.adds_context = False
        self.wrapper = worker_function(
            function, self._run_async if inspect.iscoroutinefunction(function) else self._run
        )
        setattr(self.wrapper, _MARK, self)

    def declared_as(self, name: object) -> Declaration:
        """The function's declaration under a name, or the last declaration for an unknown name."""
        declared = self.declarations.get(name) if isinstance(name, str) else None
        return declared or next(reversed(self.declarations.values()), NOTHING_DECLARED)

    @classmethod
    def of(cls, function: Any, options: AzureOptions) -> GuardedFunction | None:
        """A guarded function of an app; None if the function can't be guarded."""
        try:
            check_function(function)
        except TypeError:
            return None
        return cls(function, options)

    def _call(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[GuardedCall | None, dict[str, Any]]:
        """The call, or None if it has no invocation of its own; and the keywords for the function."""
        call = contained("begin an invocation", lambda: GuardedCall.of(self, args, keywords), None)
        own = dict(keywords)
        if self.adds_context:
            own.pop("context", None)
        return call, own

    def _run(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        # In a separate context, because the worker's pool reuses its threads with their contexts, and a streamed
        # response outlives this call.
        return contextvars.copy_context().run(self._run_here, args, keywords)

    def _run_here(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        call, own = self._call(args, keywords)
        return self.function(*args, **own) if call is None else call.run(self.function, args, own)

    async def _run_async(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        call, own = self._call(args, keywords)
        return await (self.function(*args, **own) if call is None else call.run_async(self.function, args, own))


def guarded_in(function: Any) -> GuardedFunction | None:
    """The guarded function that other decorators may wrap; None if no guard is found."""
    while function is not None:
        guarded = getattr(function, _MARK, None)
        if isinstance(guarded, GuardedFunction) and guarded.wrapper is function:  # other decorators copy the mark
            return guarded
        function = getattr(function, "__wrapped__", None)
    return None
