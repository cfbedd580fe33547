"""A guarded function: what the worker calls, and what is known of it."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable
from typing import Any

from trace_guard.contain import contained

from .call import Call
from .declaration import NOTHING_DECLARED, Declaration
from .kinds import check_function
from .options import Options
from .wrapping import coroutine_like, plain_like

__all__ = ["Guarded", "guarded_in"]

_MARK = "__trace_guard__"


class Guarded:
    """
    Attributes:
        function: the user's.
        wrapper: stands for it: of the same kind, and to be told from it by this mark alone.
        declarations: what is declared of it, once that is known, by the names under which it is registered; nearly
            always it is one.
        is_outermost: true if the worker gets what it returns, with no other decorator between.
        adds_context: true if the worker passes the context although the function does not declare it.
    """

    def __init__(self, function: Callable[..., Any], options: Options) -> None:
        self.function = function
        self.options = options
        self.declarations: dict[str | None, Declaration] = {}
        self.is_outermost = False
        self.adds_context = False
        is_coroutine = inspect.iscoroutinefunction(function)
        self.wrapper: Callable[..., Any] = (
            coroutine_like(function, self._await) if is_coroutine else plain_like(function, self._run)
        )
        setattr(self.wrapper, _MARK, self)

    def declared_as(self, name: object) -> Declaration:
        """What is declared of it under a name; if that is not known, what was declared of it last."""
        found = self.declarations.get(name) if isinstance(name, str) else None
        return found or next(reversed(self.declarations.values()), NOTHING_DECLARED)

    @classmethod
    def of(cls, function: Any, options: Options) -> Guarded | None:
        """The same for a function that nobody has asked to be guarded by itself; None if it can't be."""
        try:
            check_function(function)
        except TypeError:
            return None
        return cls(function, options)

    def _call(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> tuple[Call | None, dict[str, Any]]:
        """The call that begins, None if it is not one of its own, and the keywords of the function."""
        call = contained("begin an invocation", lambda: Call.of(self, args, keywords), None)
        own = keywords if call is None else call.keywords
        if self.adds_context and "context" in own:
            own = {name: value for name, value in own.items() if name != "context"}
        return call, own

    def _run(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        # In a context of its own: the threads of the worker's pool keep theirs from one invocation to the next, and a
        # streamed response outlives this call.
        return contextvars.copy_context().run(self._run_here, args, keywords)

    def _run_here(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        call, own = self._call(args, keywords)
        if call is None:
            return self.function(*args, **own)
        try:
            call.read_input()
            result = self.function(*args, **own)
        except BaseException as error:
            call.fail(error)
            raise
        return call.end(result)

    async def _await(self, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        call, own = self._call(args, keywords)
        if call is None:
            return await self.function(*args, **own)
        try:
            await call.read_input_async()
            result = await self.function(*args, **own)
        except BaseException as error:
            await call.fail_async(error)
            raise
        return await call.end_async(result)


def guarded_in(function: Any) -> Guarded | None:
    """The guard of a function, or of what other decorators have been put around; None if there is none."""
    while function is not None:
        found = getattr(function, _MARK, None)
        if isinstance(found, Guarded) and found.wrapper is function:  # others copy the mark of what they wrap
            return found
        function = getattr(function, "__wrapped__", None)
    return None
