"""Behaviour of single kinds of function: generators, cancellation, nesting."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import json
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import braintrust
import pytest
from support import until

from trace_guard import Guard, current_invocation
from trace_guard.backends.memory import MemoryBackend
from trace_guard.rows import Row
from trace_guard_lambda import guard_handler

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="outside")


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=directory, project="p", linger=60)
    yield guard
    guard.close()


def by_name(backend: MemoryBackend) -> dict[str, Row]:
    return {row["span_attributes"]["name"]: row for row in backend.rows()}


def about(row: Row) -> dict[str, Any]:
    return dict((row.get("metadata") or {}).get("trace_guard") or {})


def roots(backend: MemoryBackend) -> list[Row]:
    return [row for row in backend.rows() if not row["span_parents"]]


def signature_of(function: Callable[..., Any]) -> tuple[Any, ...]:
    """The properties of a function that wrapping must keep."""
    return (
        function.__name__, function.__qualname__, function.__doc__, inspect.signature(function),
        inspect.iscoroutinefunction(function), inspect.isgeneratorfunction(function),
        inspect.isasyncgenfunction(function),
    )


def plain(a: int, *, b: str = "x") -> int:
    """Add."""
    return a


async def coroutine(a: int, *, b: str = "x") -> int:
    """Add, slowly."""
    return a


def generator(a: int, *, b: str = "x") -> Generator[int, None, None]:
    """Count."""
    yield a


async def async_generator(a: int, *, b: str = "x") -> AsyncGenerator[int, None]:
    """Count, slowly."""
    yield a


@pytest.mark.parametrize("function", [plain, coroutine, generator, async_generator])
def test_a_wrapped_function_keeps_its_kind(guard: Guard, function: Callable[..., Any]) -> None:
    """A wrapped function keeps its name, docstring, signature and kind."""
    assert signature_of(guard.wrap(function)) == signature_of(function)


def test_arguments_are_captured(guard: Guard, backend: MemoryBackend) -> None:
    """The arguments of a wrapped function are its input, and the result is its output."""
    assert guard.wrap(plain)(1, b="y") == 1
    (row,) = backend.rows()
    assert (row["input"], row["output"]) == ({"args": [1], "kwargs": {"b": "y"}}, 1)


def talk() -> Generator[Any, Any, str]:
    VARIABLE.set("inside")
    heard = []
    while len(heard) < 3:
        try:
            heard.append((yield braintrust.current_span().name))
        except LookupError as error:
            heard.append(error)
    return f"heard {heard}"


def test_send_and_throw_reach_a_generator(guard: Guard, backend: MemoryBackend) -> None:
    """Sent and thrown values reach a generator, its return value is kept, and the caller's context is in force between
    two steps."""
    conversation = guard.wrap(talk)()
    outside = braintrust.current_span()
    error = LookupError("thrown")
    assert conversation.send(None) == "talk"
    assert (braintrust.current_span(), VARIABLE.get(), current_invocation()) == (outside, "outside", None)
    assert conversation.send("first") == "talk"
    assert conversation.throw(error) == "talk"
    with pytest.raises(StopIteration) as stop:
        conversation.send("last")
    assert stop.value.value == f"heard {['first', error, 'last']}"
    (row,) = backend.rows()
    assert about(row) == {"outcome": "ok"}
    assert row["metrics"]["end"] >= row["metrics"]["start"]


def test_nothing_is_opened_before_the_first_step(guard: Guard, backend: MemoryBackend) -> None:
    """A generator that is never started leaves no trace."""
    guard.wrap(generator)(1).close()
    assert (guard.flush(), backend.rows()) == (True, [])


def test_a_generator_may_be_left(guard: Guard, backend: MemoryBackend) -> None:
    """A generator that is closed early runs its clean-up and is closed as ok."""
    cleaned = []

    def counts() -> Generator[int, None, None]:
        try:
            yield from range(10)
        finally:
            cleaned.append(braintrust.current_span().name)

    counting = guard.wrap(counts, name="counts")()
    assert next(counting) == 0
    counting.close()
    assert cleaned == ["counts"]
    assert [about(row) for row in backend.rows()] == [{"outcome": "ok"}]


def test_an_async_generator_may_be_left(guard: Guard, backend: MemoryBackend) -> None:
    """An async generator that is closed early runs its clean-up in its context and is closed as ok."""
    cleaned = []

    async def counts() -> AsyncGenerator[int, None]:
        try:
            for n in range(10):
                await asyncio.sleep(0)
                yield n
        finally:
            await asyncio.sleep(0)
            cleaned.append(braintrust.current_span().name)

    async def main() -> None:
        counting = guard.wrap(counts, name="counts")()
        assert await anext(counting) == 0
        assert braintrust.current_span().name == ""
        await counting.aclose()

    asyncio.run(main())
    assert cleaned == ["counts"]
    assert [about(row) for row in backend.rows()] == [{"outcome": "ok"}]


def test_send_and_throw_reach_an_async_generator(guard: Guard, backend: MemoryBackend) -> None:
    """Sent and thrown values reach an async generator."""

    async def talks() -> AsyncGenerator[Any, Any]:
        heard = yield "ready"
        try:
            yield heard
        except LookupError as error:
            yield str(error)

    async def main() -> list[Any]:
        conversation = guard.wrap(talks)()
        return [
            await conversation.asend(None), await conversation.asend("word"),
            await conversation.athrow(LookupError("thrown")), [item async for item in conversation],
        ]

    assert asyncio.run(main()) == ["ready", "word", "thrown", []]
    assert [about(row) for row in backend.rows()] == [{"outcome": "ok"}]


@pytest.mark.parametrize("kind", ["coroutine", "async with", "async generator"])
def test_a_cancelled_task_is_closed(guard: Guard, backend: MemoryBackend, kind: str) -> None:
    """A cancelled task ends as cancelled, and its root is closed as an error."""

    async def waits(begun: asyncio.Event) -> None:
        begun.set()
        await asyncio.sleep(60)

    async def steps(begun: asyncio.Event) -> AsyncGenerator[None, None]:
        await waits(begun)
        yield

    async def within(begun: asyncio.Event) -> None:
        async with guard.invocation("work"):
            await waits(begun)

    async def drains(begun: asyncio.Event) -> None:
        async for _ in guard.wrap(steps)(begun):
            pass

    work = {"coroutine": guard.wrap(waits), "async with": within, "async generator": drains}[kind]

    async def main() -> bool:
        begun = asyncio.Event()
        task = asyncio.create_task(work(begun))
        await begun.wait()
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(main())
    (row,) = backend.rows()
    assert about(row) == {"outcome": "error"}
    assert "CancelledError" in row["error"]


class SlowBackend(MemoryBackend):
    """A backend that accepts rows only after it is released."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = threading.Event(), threading.Event()

    def send(self, *arguments: Any) -> None:
        self.asked.set()
        assert self.go_on.wait(10)
        super().send(*arguments)


def test_a_cancellation_while_it_delivers_loses_nothing(directory: Any) -> None:
    """A task that is cancelled while it waits for its delivery ends at once, and the delivery continues."""
    backend = SlowBackend()
    guard = Guard(backend=backend, dir=directory, project="p", flush_timeout=10, flush="before-response")

    async def main() -> bool:
        async def work() -> int:
            return 5

        task = asyncio.create_task(guard.wrap(work)())
        await asyncio.get_running_loop().run_in_executor(None, backend.asked.wait, 10)
        task.cancel()
        await asyncio.wait([task])
        assert backend.rows() == []
        backend.go_on.set()
        return task.cancelled()

    assert asyncio.run(main())
    until(lambda: [about(row) for row in backend.rows()] == [{"outcome": "ok"}])
    guard.close()


def test_the_event_loop_is_not_blocked(directory: Any) -> None:
    """While the trace of one task is delivered, other tasks run."""
    backend = SlowBackend()
    guard = Guard(backend=backend, dir=directory, project="p", flush_timeout=10)

    async def work() -> int:
        return 5

    async def main() -> int:
        task = asyncio.create_task(guard.wrap(work)())
        while not backend.asked.is_set():
            await asyncio.sleep(0)
        backend.go_on.set()  # impossible while the loop is blocked
        return await task

    assert asyncio.run(main()) == 5
    guard.close()


def test_tasks_do_not_mix(guard: Guard, backend: MemoryBackend) -> None:
    """Each of many concurrent tasks has a trace with only its own spans."""

    @braintrust.traced
    async def tool(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def work(n: int) -> int:
        left = braintrust.start_span(f"left {n}")
        await asyncio.gather(tool(n), tool(n))
        assert left.span_parents == [braintrust.current_span().span_id]
        return n

    async def main() -> list[int]:
        guarded = guard.wrap(work)
        return await asyncio.gather(*(guarded(n) for n in range(20)))

    assert asyncio.run(main()) == list(range(20))
    found = roots(backend)
    assert len(found) == 20
    for root in found:
        trace = [row for row in backend.rows() if row["root_span_id"] == root["root_span_id"]]
        n = root["output"]
        names = sorted(row["span_attributes"]["name"] for row in trace if row["id"] != root["id"])
        assert names == [f"left {n}", "tool", "tool"]
        assert [row["output"] for row in trace if row["span_attributes"]["name"] == "tool"] == [n, n]
        assert all("end" in row["metrics"] for row in trace)


def test_an_invocation_within_another_is_a_span_of_it(guard: Guard, backend: MemoryBackend) -> None:
    """An invocation within another is a span of it, and both are delivered together."""
    with guard.invocation("outer") as outer:
        with pytest.raises(ValueError, match="inner"), guard.invocation("inner", input=1) as inner:
            raise ValueError("inner fails")
        assert current_invocation() is outer
        assert backend.rows() == []
    spans = by_name(backend)
    assert spans["inner"]["span_parents"] == [spans["outer"]["span_id"]]
    assert {name: about(row)["outcome"] for name, row in spans.items()} == {"outer": "ok", "inner": "error"}
    assert (inner.delivery, backend.sends) == (None, 1)


def test_a_parent_is_adopted_if_braintrust_knows_it(guard: Guard, backend: MemoryBackend) -> None:
    """An exported span, or headers with braintrust.parent, become the parent. A foreign traceparent is metadata."""
    with guard.invocation("caller") as caller:
        exported = caller.span.export()
        headers = braintrust.inject_trace_context(span=caller.span)
    foreign = {"Traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    for name, parent in (("by slug", exported), ("by headers", headers), ("foreign", foreign), ("none", {})):
        with guard.invocation(name, parent=parent):
            pass
    spans = by_name(backend)
    for name in ("by slug", "by headers"):
        assert spans[name]["span_parents"] == [spans["caller"]["span_id"]]
        assert spans[name]["root_span_id"] == spans["caller"]["root_span_id"]
    assert [spans[name]["span_parents"] for name in ("foreign", "none")] == [None, None]
    assert spans["foreign"]["metadata"]["traceparent"] == foreign["Traceparent"]
    assert all("end" in row["metrics"] for row in spans.values())


def test_masking_covers_what_is_captured(guard: Guard, backend: MemoryBackend) -> None:
    """The SDK's masking function is applied to the captured input and output."""
    braintrust.set_masking_function(lambda value: json.loads(json.dumps(value).replace("4111", "****")))
    try:
        assert guard_handler(guard=guard)(lambda event, context: event)({"card": "4111"}, None) == {"card": "4111"}
    finally:
        braintrust.set_masking_function(None)
    (row,) = backend.rows()
    assert (row["input"], row["output"]) == ({"card": "****"}, {"card": "****"})


def test_a_root_that_user_code_has_ended(guard: Guard, backend: MemoryBackend) -> None:
    """A root that user code has ended still gets its outcome and error."""

    def ends_its_root() -> None:
        braintrust.current_span().end()
        raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        guard.wrap(ends_its_root)()
    (row,) = backend.rows()
    assert about(row) == {"outcome": "error"}
    assert row["error"].rstrip().endswith("ValueError: later")
