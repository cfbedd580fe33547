"""Calls a function with many items, in threads. Each call is a step of the job."""

from __future__ import annotations

import contextlib
import inspect
import operator
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import TYPE_CHECKING, Generic, Literal, NoReturn, TypeAlias, TypeVar, cast

from ..system.interruption import interruption, pass_interruption
from .current import RunningJob
from .steps import Step
from .workers import Workers

__all__ = ["Failure", "Items", "Processing", "Result", "Success"]

T = TypeVar("T")
R = TypeVar("R")
Items: TypeAlias = Iterable[T]

# How many items per worker are taken ahead of the next result.
_AHEAD = 4
_ON_ERROR = ("continue", "raise")


class Result(Generic[T, R]):
    """The result of one item: a :class:`Success` or a :class:`Failure`, which ``ok`` and ``error`` tell apart.

    Type checkers know ``value`` as the function's return type. They narrow the two classes by ``result.error is None``;
    mypy does so by ``result.ok`` too.

    Attributes:
        item: the argument of the function.
        index: the position of the item, from 0.
    """

    __slots__ = ("_error", "_value", "index", "item")

    def __init__(self, index: int, item: T, value: R | None = None, error: Exception | None = None) -> None:
        self.index = index
        self.item = item
        self._value = value
        self._error = error

    @property
    def ok(self) -> bool:
        """True if the function returned."""
        return self._error is None

    @property
    def value(self) -> R:
        """The return value; None if the function raised."""
        return cast(R, self._value)

    @property
    def error(self) -> Exception | None:
        """The exception that the function raised, or None."""
        return self._error

    def __repr__(self) -> str:
        end = f"value={self.value!r}" if self.ok else f"error={self.error!r}"
        return f"Result(index={self.index}, item={self.item!r}, {end})"


class Success(Result[T, R]):
    """The result of an item for which the function returned."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def ok(self) -> Literal[True]: ...

        @property
        def error(self) -> None: ...


class Failure(Result[T, R]):
    """The result of an item for which the function raised."""

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def ok(self) -> Literal[False]: ...

        # Not None: pyright does not narrow by `ok`, and would add it to the type of each value.
        @property
        def value(self) -> NoReturn: ...

        @property
        def error(self) -> Exception: ...


class Processing(Iterator[Success[T, R] | Failure[T, R]]):
    """An iterator of results, made by :func:`trace_guard.process`. Work starts when the first result is requested."""

    def __init__(
        self,
        items: Iterable[T],
        function: Callable[[T], R],
        job: RunningJob | None,
        *,
        workers: int,
        name: str | None,
        on_error: str,
        in_order: bool,
    ) -> None:
        self._has_begun = True  # until the arguments are checked
        if inspect.iscoroutinefunction(function):
            raise TypeError(
                f"process() runs plain functions in threads, and {getattr(function, '__name__', function)!r} is a "
                "coroutine function: use asyncio.TaskGroup or asyncio.gather, with `async with step(...)` in each task"
            )
        if not callable(function):
            raise TypeError(f"process() takes a function to call with each item, and {function!r} can't be called")
        if not isinstance(workers, int) or workers < 1:
            raise ValueError(f"workers={workers!r} is not accepted: it takes a whole number, 1 or more")
        if on_error not in _ON_ERROR:
            raise ValueError(f"on_error={on_error!r} is not accepted: it takes {' or '.join(_ON_ERROR)}")
        if job is not None:
            job.expect_steps(_length_of(items))
        self._items = iter(items)
        self._function = function
        self._job = job
        self._name = name or getattr(function, "__name__", None) or type(function).__name__
        self._raises = on_error == "raise"
        self._in_order = in_order
        self._count = workers
        self._pending: list[Future[Success[T, R] | Failure[T, R]]] = []
        self._workers: Workers | None = None
        self._taken = 0
        self._is_exhausted = False
        self._fault: Exception | None = None
        self._has_begun = False

    def __iter__(self) -> Processing[T, R]:
        return self

    def __next__(self) -> Success[T, R] | Failure[T, R]:
        self._has_begun = True
        try:
            self._fill()
            if not self._pending:
                fault, self._fault = self._fault, None
                self.close()
                if fault is not None:
                    raise fault
                raise StopIteration
            result = self._next_done().result()
        except StopIteration:
            raise
        except BaseException as error:
            # Ctrl-C or a time limit must not wait for the running calls.
            self._stop(isinstance(error, Exception) and interruption(error) is None)
            raise
        if result.error is not None and self._raises:
            self.close()
            if isinstance(result.error, StopIteration):
                # It would look like the end of the results. Generators do the same: PEP 479.
                raise RuntimeError(f"{self._name} raised StopIteration") from result.error
            raise result.error
        return result

    def run(self) -> dict[str, int]:
        """Process all items. Returns how many were ``done`` and how many ``failed``."""
        counts = {"done": 0, "failed": 0}
        for result in self:
            counts["done" if result.ok else "failed"] += 1
        return counts

    def close(self) -> None:
        """Take no more items, and wait for the running calls."""
        self._stop(True)

    def _stop(self, waits: bool) -> None:
        self._has_begun = self._is_exhausted = True
        self._pending.clear()
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.stop(waits)

    def _fill(self) -> None:
        """Submit items, in the thread that requests results, until a result is ready or the bound is reached."""
        while not self._is_exhausted and len(self._pending) < self._count * _AHEAD:
            if self._pending and self._pending[0].done() and len(self._pending) > self._count:
                return
            try:
                item = next(self._items)
            except StopIteration:
                self._is_exhausted = True
            except Exception as fault:  # noqa: BLE001 - raised after the results of earlier items
                pass_interruption(fault)
                self._is_exhausted, self._fault = True, fault
            else:
                self._submit(item)

    def _submit(self, item: T) -> None:
        if self._workers is None:
            self._workers = Workers(self._count)
            if self._job is not None:
                self._job.add_workers(self._workers)
        self._pending.append(
            self._workers.submit(_work, self._function, self._name, self._job, self._taken, item)
        )
        self._taken += 1

    def _next_done(self) -> Future[Success[T, R] | Failure[T, R]]:
        if self._in_order:
            return self._pending.pop(0)
        done, _ = wait(self._pending, return_when=FIRST_COMPLETED)
        first = next(future for future in self._pending if future in done)
        self._pending.remove(first)
        return first

    def __del__(self) -> None:
        if not getattr(self, "_has_begun", True):
            warnings.warn(
                "trace-guard: the results of process() were never requested, so nothing was done: iterate over them, "
                "or call .run()",
                RuntimeWarning, stacklevel=2, source=self,
            )
        elif getattr(self, "_workers", None) is not None:
            self._stop(False)


def _length_of(items: Iterable[object]) -> int | None:
    """The number of items, or an estimate by the iterable; None if it is not known."""
    with contextlib.suppress(Exception):  # asking the user's iterable may fail in any way
        length = operator.length_hint(items, -1)
        return None if length < 0 else length
    return None


def _work(
    function: Callable[[T], R], name: str, job: RunningJob | None, index: int, item: T
) -> Success[T, R] | Failure[T, R]:
    """Process one item, in a thread. Not a method, because it must not keep the iterator of results alive."""
    try:
        with Step(name, job, input=item, is_expected=True) as step:
            value = function(item)
            step.set_output(value)
    except Exception as error:  # noqa: BLE001 - returned in the result
        return Failure(index, item, error=error)
    return Success(index, item, value)
