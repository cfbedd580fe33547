"""Functions each of whose calls is an invocation, whatever kind of function they are."""

from __future__ import annotations

import contextvars
import functools
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, Protocol, TypeVar

from ..contain import contain
from .invocation import NOTHING, current_invocation

__all__ = ["Begin", "InContext", "UnitOfWork", "guarded"]

F = TypeVar("F", bound=Callable[..., Any])


class UnitOfWork(Protocol):
    """An :class:`Invocation`, or something that has one. None of its methods raises for a fault of ours."""

    def open(self) -> UnitOfWork: ...

    def close(self, error: BaseException | None = None, *, output: Any = NOTHING) -> object: ...

    async def aclose(self, error: BaseException | None = None, *, output: Any = NOTHING) -> object: ...

    def leave(self) -> None: ...


class Begin(Protocol):
    """Makes the unit of work of a call from its arguments, and does not open it."""

    def __call__(self, args: tuple[Any, ...], keywords: dict[str, Any], /) -> UnitOfWork: ...


def guarded(function: F, begin: Begin) -> F:
    """A function like ``function``, of the same kind and signature, each of whose calls is an invocation.

    A call from within an invocation belongs to that one: a function that is wrapped twice opens one root.

    Args:
        begin: makes the invocation of a call, and does not open it.
    """
    if inspect.isasyncgenfunction(function):
        wrapper = _async_generator(function, begin)
    elif inspect.iscoroutinefunction(function):
        wrapper = _coroutine(function, begin)
    elif inspect.isgeneratorfunction(function):
        wrapper = _generator(function, begin)
    else:
        wrapper = _plain(function, begin)
    return wrapper  # type: ignore[return-value]


def opened(begin: Begin, args: tuple[Any, ...], keywords: dict[str, Any]) -> UnitOfWork | None:
    """The opened invocation of a call; None if it belongs to another one, or if ours could not be begun."""
    with contain("begin an invocation"):
        return begin(args, keywords).open() if current_invocation() is None else None
    return None


def _plain(function: Callable[..., Any], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        invocation = opened(begin, args, keywords)
        if invocation is None:
            return function(*args, **keywords)
        try:
            result = function(*args, **keywords)
        except BaseException as error:
            invocation.close(error)
            raise
        if inspect.iscoroutine(result):
            # What a plain function has handed on is yet to be done, in the context in which the root is current.
            context = contextvars.copy_context()
            invocation.leave()
            return _finished(result, invocation, context)
        invocation.close(output=result)
        return result

    return wrapper


async def _finished(work: Awaitable[Any], invocation: UnitOfWork, context: contextvars.Context) -> Any:
    try:
        result = await InContext(work, context)
    except BaseException as error:
        await invocation.aclose(error)
        raise
    await invocation.aclose(output=result)
    return result


def _coroutine(function: Callable[..., Awaitable[Any]], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **keywords: Any) -> Any:
        invocation = opened(begin, args, keywords)
        if invocation is None:
            return await function(*args, **keywords)
        try:
            result = await function(*args, **keywords)
        except BaseException as error:
            await invocation.aclose(error)
            raise
        await invocation.aclose(output=result)
        return result

    return wrapper


def _generator(function: Callable[..., Generator[Any, Any, Any]], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Generator[Any, Any, Any]:
        # Between two items the caller's code runs: the root must be current in the generator's steps only.
        context = contextvars.copy_context()
        invocation = context.run(opened, begin, args, keywords)
        if invocation is None:
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
                    # The consumer has had enough, which is no error of the function's.
                    last = context.run(generator.close)
                    context.run(invocation.close)
                    if last is not None:
                        return last  # what close() returns, from Python 3.13 on
                    raise
                except BaseException as thrown:  # noqa: BLE001 - handed on to the function, as yield from does
                    step, value = generator.throw, (thrown,)
                else:
                    step, value = generator.send, (sent,)
        except StopIteration as stop:
            context.run(invocation.close)
            return stop.value
        except BaseException as error:
            context.run(invocation.close, error)
            raise

    return wrapper


def _async_generator(function: Callable[..., AsyncGenerator[Any, Any]], begin: Begin) -> Callable[..., Any]:
    @functools.wraps(function)
    async def wrapper(*args: Any, **keywords: Any) -> AsyncGenerator[Any, Any]:
        context = contextvars.copy_context()
        invocation = context.run(opened, begin, args, keywords)
        if invocation is None:
            # Not "async for": what the consumer sends and throws must reach the function here too.
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
                    await _closed(invocation, context)
                    raise
                except BaseException as thrown:  # noqa: BLE001 - handed on to the function
                    step, value = generator.athrow, (thrown,)
                else:
                    step, value = generator.asend, (sent,)
        except StopAsyncIteration:
            await _closed(invocation, context)
        except BaseException as error:
            await _closed(invocation, context, error)
            raise

    return wrapper


async def _closed(
    invocation: UnitOfWork | None, context: contextvars.Context, error: BaseException | None = None
) -> None:
    if invocation is not None:
        await InContext(invocation.aclose(error), context)


class InContext:
    """Awaits something each of whose steps runs in a context of its own."""

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
            except BaseException as thrown:  # noqa: BLE001 - a cancellation, handed on to what is awaited
                step, value = getattr(steps, "throw"), (thrown,)  # noqa: B009 - not every iterator has it
            else:
                step, value = getattr(steps, "send", steps.__next__), (sent,) if hasattr(steps, "send") else ()
