"""Loops over records: each step has a span, and an exception goes to the span of the record that raised it.

An iterator can't find out why a loop is left: Python drops it at ``break``, at ``return`` and while an exception
unwinds the frame. So the span ends when the iterator is dropped, and its outcome is decided when the invocation ends.
An exception that ends the invocation belongs to the loop if its traceback passes the loop's frame between the line
where the loop began and the line where it was left.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from types import CodeType, FrameType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from ..contain import contain, contained

__all__ = ["AsyncRecords", "RecordLoop", "RecordLoops", "Records"]

T = TypeVar("T")


class Span(Protocol):
    """The span of a record, such as a :class:`.records.RecordSpan`."""

    def close(self, error: BaseException | None = None) -> None: ...

    def log_error(self, error: BaseException) -> None: ...

    def end(self) -> None: ...

    def count(self, outcome: str) -> None: ...


class _Line(NamedTuple):
    """A frame and the line that it executes. Only the frame's id is kept, as the frame itself would keep its variables
    alive."""

    frame: int
    code: CodeType
    number: int | None


class RecordLoops:
    """The loops of an invocation whose last record has no outcome yet."""

    def __init__(self) -> None:
        self._running: dict[RecordLoop, None] = {}
        self._left: dict[_Line, RecordLoop] = {}

    def add(self, loop: RecordLoop) -> None:
        self._running[loop] = None

    def remove(self, loop: RecordLoop) -> None:
        self._running.pop(loop, None)

    def leave(self, loop: RecordLoop, began_at: _Line) -> None:
        """Keep a loop that was left until the invocation ends.

        If the same frame starts the loop again, no exception left the earlier loop, which is settled as handled. The
        traceback of a pending exception keeps its frame alive, so no other frame can have its id.
        """
        self.remove(loop)
        before, self._left[began_at] = self._left.get(began_at), loop
        if before is not None:
            before.settle(None)

    def settle(self, error: BaseException | None) -> None:
        """Close the spans of all loops, the innermost first.

        Args:
            error: the exception that ends the invocation.
        """
        for loop in [*reversed(list(self._running)), *reversed(list(self._left.values()))]:
            with contain("close a record's span"):
                loop.settle(error)
        self._running.clear()
        self._left.clear()


class RecordLoop:
    """A loop over records: its current span, and the lines where it began and was left.

    Args:
        loops: of the invocation that the loop runs in.
        open_span: opens the span of a record; returns None if there is none to open.
    """

    def __init__(self, loops: RecordLoops, open_span: Callable[[Any], Span | None]) -> None:
        self._loops = loops
        self._open_span = open_span
        self._span: Span | None = None
        self._began_at: list[_Line] = []
        self._left_at: list[_Line] = []

    def begin(self, record: Any) -> None:
        """Open the span of a record, before the loop's body runs."""
        self._span = self._open_span(record)
        if self._span is not None:
            self._began_at = self._began_at or _lines()
            self._loops.add(self)

    def finish(self) -> None:
        """Close the span after the loop's body has run."""
        span, self._span = self._span, None
        if span is not None:
            self._loops.remove(self)
            span.close()

    def leave(self) -> None:
        """Close the span after the loop has dropped its iterator."""
        if self._span is not None:
            self._left_at = _lines()
            self._span.end()
            self._loops.leave(self, self._began_at[0])

    def settle(self, error: BaseException | None) -> None:
        """Decide the outcome of the last record.

        Args:
            error: the exception that ends the invocation.
        """
        span, self._span = self._span, None
        if span is None:
            return
        if not self._left_at:  # the iterator still exists, so the loop may still be in its body
            span.close(error)
            return
        raised = _raised_between(self._began_at, self._left_at, error)
        if raised is not None:
            span.log_error(raised)
        span.count("done" if raised is None else "failed")


class Records(Generic[T]):
    """An iterable of records. Each iteration is a loop.

    Args:
        begin: makes the loop; returns None outside an invocation.
    """

    def __init__(self, records: Iterable[T], begin: Callable[[], RecordLoop | None]) -> None:
        self._records = records
        self._begin = begin

    def __iter__(self) -> Iterator[T]:
        records = iter(self._records)
        loop = contained("begin a loop over records", self._begin, None)
        return records if loop is None else _Steps(records, loop)


class AsyncRecords(Generic[T]):
    """:class:`Records` for ``async for``."""

    def __init__(self, records: AsyncIterable[T], begin: Callable[[], RecordLoop | None]) -> None:
        self._records = records
        self._begin = begin

    def __aiter__(self) -> AsyncIterator[T]:
        records = self._records.__aiter__()
        loop = contained("begin a loop over records", self._begin, None)
        return records if loop is None else _AsyncSteps(records, loop)


class _Steps(Generic[T]):
    """An iterator that only the loop references, so it is deleted when the loop is left."""

    def __init__(self, records: Iterator[T], loop: RecordLoop) -> None:
        self._records = records
        self._loop = loop

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        with contain("close a record's span"):
            self._loop.finish()
        record = next(self._records)
        with contain("begin a record's span"):
            self._loop.begin(record)
        return record

    def __del__(self) -> None:
        with contain("leave a loop over records"):
            self._loop.leave()


class _AsyncSteps(Generic[T]):
    """:class:`_Steps` for ``async for``. It runs in the context of the loop's task."""

    def __init__(self, records: AsyncIterator[T], loop: RecordLoop) -> None:
        self._records = records
        self._loop = loop

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        with contain("close a record's span"):
            self._loop.finish()
        record = await self._records.__anext__()
        with contain("begin a record's span"):
            self._loop.begin(record)
        return record

    def __del__(self) -> None:
        with contain("leave a loop over records"):
            self._loop.leave()


def _lines() -> list[_Line]:
    """The current line of the frame that runs a loop, and those of its callers."""
    lines: list[_Line] = []
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        if lines or frame.f_code.co_filename != __file__:
            lines.append(_Line(id(frame), frame.f_code, frame.f_lineno))
        frame = frame.f_back
    return lines


def _raised_between(
    began_at: list[_Line], left_at: list[_Line], error: BaseException | None
) -> BaseException | None:
    """The exception that left a loop: ``error`` or an exception that it was raised from. None if all were raised
    elsewhere.

    An exception in the body passes the loop's frame. If the loop is in a generator that was closed, the exception
    passes the frame that iterates the generator.
    """
    first = {line.frame: line.number for line in began_at}
    for _ in range(100):  # exceptions may refer to each other in a circle
        if error is None:
            break
        passed: dict[tuple[int, CodeType], int | None] = {}
        trace = error.__traceback__
        while trace is not None:
            passed[id(trace.tb_frame), trace.tb_frame.f_code] = trace.tb_lineno
            trace = trace.tb_next
        for frame, code, last in left_at:
            if (frame, code) in passed:
                if _is_between(first.get(frame), passed[frame, code], last):
                    return error
                break
        error = error.__cause__ or error.__context__
    return None


def _is_between(first: int | None, line: int | None, last: int | None) -> bool:
    return line is not None and (first or line) <= line <= (last or line)
