"""Wraps functions so that each call is a unit of work: plain functions, coroutine functions and generators."""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar

from ..contain import contain
from .invocation import NOTHING, current_invocation

__all__ = ["GUARDED", "Begin", "InContext", "UnitOfWork", "around", "guarded", "wrapper_of"]

F = TypeVar("F", bound=Callable[..., Any])

GUARDED = "__trace_guard__"
"""The attribute that marks a guarded function. Decorators that use ``functools.wraps`` copy it."""


class UnitOfWork(Protocol):
    """An :class:`Invocation` or a similar object. Its methods contain our own faults."""

    def close(self, error: BaseException | None = None, *, output: Any = NOTHING) -> object: ...

    async def aclose(self, error: BaseException | None = None, *, output: Any = NOTHING) -> object: ...

    def leave(self) -> None: ...


class Unopened(Protocol):
    """A unit of work that is not open yet."""

    def open(self) -> UnitOfWork: ...


Open = Callable[[tuple[Any, ...], dict[str, Any]], "UnitOfWork | None"]
"""Opens the unit of work of a call; returns None if the call has none of its own."""


class Begin(Protocol):
    """Makes the invocation of a call from its arguments, without opening it; None for a call that is not traced."""

    def __call__(self, args: tuple[Any, ...], keywords: dict[str, Any], /) -> Unopened | None: ...


def guarded(function: F, begin: Begin, *, ends_at_return: bool = False) -> F:
    """A function of the same kind and signature as ``function``, each call of which is an invocation.

    A call within another invocation belongs to it, so a function that is wrapped twice opens a single root.

    Args:
        begin: makes the invocation of a call, without opening it.
        ends_at_return: the caller uses only what the call returns. It does not await a coroutine or iterate over a
            generator, so the invocation ends when the call returns, whatever it returns.
    """
    def open_unit(args: tuple[Any, ...], keywords: dict[str, Any]) -> UnitOfWork | None:
        return opened(begin, args, keywords)

    wrapper: Any = _plain(function, open_unit, ends_at_return=True) if ends_at_return else around(function, open_unit)
    setattr(wrapper, GUARDED, True)
    return wrapper  # type: ignore[no-any-return]


def opened(begin: Begin, args: tuple[Any, ...], keywords: dict[str, Any]) -> UnitOfWork | None:
    """The opened invocation of a call; None within another invocation, for a call that is not traced, or if opening
    failed."""
    with contain("begin an invocation"):
        if current_invocation() is None:
            unopened = begin(args, keywords)
            return None if unopened is None else unopened.open()
    return None


def around(function: F, open_unit: Open) -> F:
    """A function of the same kind and signature as ``function``, each call of which is a unit of work."""
    if inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, open_unit)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, open_unit)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, open_unit)
    else:
        wrapper = _plain(function, open_unit)
    return wrapper  # type: ignore[return-value]


def wrapper_of(
    function: Callable[..., Any], run: Callable[[tuple[Any, ...], dict[str, Any]], Any]
) -> Callable[..., Any]:
    """A plain or coroutine function like ``function`` that calls ``run`` with its arguments."""

    # Each on a single line, so that callers can move all of its code to another line by changing its first line.
    def plain(*args: Any, **keywords: Any) -> Any: return run(args, keywords)

    async def coroutine(*args: Any, **keywords: Any) -> Any: return await run(args, keywords)

    return functools.update_wrapper(coroutine if inspect.iscoroutinefunction(function) else plain, function)


def _plain(function: Callable[..., Any], open_unit: Open, *, ends_at_return: bool = False) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        unit = open_unit(args, keywords)
        if unit is None:
            return function(*args, **keywords)
        try:
            result = function(*args, **keywords)
        except BaseException as error:
            unit.close(error)
            raise
        if inspect.iscoroutine(result) and not ends_at_return:
            # The coroutine has not run yet. It needs the context in which the root is current.
            context = contextvars.copy_context()
            unit.leave()
            return _finished(result, unit, context)
        unit.close(output=result)
        return result

    return wrapper


async def _finished(work: Awaitable[Any], unit: UnitOfWork, context: contextvars.Context) -> Any:
    try:
        result = await InContext(work, context)
    except BaseException as error:
        await unit.aclose(error)
        raise
    await unit.aclose(output=result)
    return result


def _coroutine(function: Callable[..., Awaitable[Any]], open_unit: Open) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **keywords: Any) -> Any:
        unit = open_unit(args, keywords)
        if unit is None:
            return await function(*args, **keywords)
        try:
            result = await function(*args, **keywords)
        except BaseException as error:
            await unit.aclose(error)
            raise
        await unit.aclose(output=result)
        return result

    return wrapper


def _generator(function: Callable[..., Generator[Any, Any, Any]], open_unit: Open) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Generator[Any, Any, Any]:
        # The caller's code runs between two items, so the unit is current only while the generator runs.
        context = contextvars.copy_context()
        unit = context.run(open_unit, args, keywords)
        if unit is None:
            return (yield from function(*args, **keywords))
        generator = function(*args, **keywords)
        try:
            step: Callable[..., Any] = generator.__next__
            value: tuple[Any, ...] = ()
            while True:
                item = context.run(step, *value)
                try:
                    sent = yield item
                except GeneratorExit:
                    # The consumer stopped early, which is not an error of the function.
                    last = context.run(generator.close)
                    context.run(unit.close)
                    if last is not None:
                        return last  # close() returns a value from Python 3.13 on
                    raise
                except BaseException as thrown:  # noqa: BLE001 - passed on to the function, as yield from does
                    step, value = generator.throw, (thrown,)
                else:
                    step, value = generator.send, (sent,)
        except StopIteration as stop:
            context.run(unit.close)
            return stop.value
        except BaseException as error:
            context.run(unit.close, error)
            raise

    return wrapper


def _async_generator(function: Callable[..., AsyncGenerator[Any, Any]], open_unit: Open) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **keywords: Any) -> AsyncGenerator[Any, Any]:
        context = contextvars.copy_context()
        unit = context.run(open_unit, args, keywords)
        if unit is None:
            # Not "async for", which would not pass on what the consumer sends and throws.
            context = contextvars.copy_context()
        generator = function(*args, **keywords)
        try:
            step: Callable[..., Awaitable[Any]] = generator.__anext__
            value: tuple[Any, ...] = ()
            while True:
                item = await InContext(step(*value), context)
                try:
                    sent = yield item
                except GeneratorExit:
                    await InContext(generator.aclose(), context)
                    await _closed(unit, context)
                    raise
                except BaseException as thrown:  # noqa: BLE001 - passed on to the function
                    step, value = generator.athrow, (thrown,)
                else:
                    step, value = generator.asend, (sent,)
        except StopAsyncIteration:
            await _closed(unit, context)
        except BaseException as error:
            await _closed(unit, context, error)
            raise

    return wrapper


async def _closed(
    unit: UnitOfWork | None, context: contextvars.Context, error: BaseException | None = None
) -> None:
    if unit is not None:
        await InContext(unit.aclose(error), context)


class InContext:
    """Awaits an awaitable in a given context."""

    def __init__(self, awaitable: Awaitable[Any], context: contextvars.Context) -> None:
        self._awaitable = awaitable
        self._context = context

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._awaitable.__await__()
        step: Callable[..., Any] = steps.__next__
        value: tuple[Any, ...] = ()
        while True:
            try:
                waits_for = self._context.run(step, *value)
            except StopIteration as stop:
                return stop.value
            try:
                sent = yield waits_for
            except BaseException as thrown:  # noqa: BLE001 - a cancellation, passed on to the awaitable
                step, value = getattr(steps, "throw"), (thrown,)  # noqa: B009 - not every iterator has it
            else:
                step, value = getattr(steps, "send", steps.__next__), (sent,) if hasattr(steps, "send") else ()
