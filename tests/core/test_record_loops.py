"""A span for each step of a loop over records, whatever kind of loop it is and however it is left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import braintrust
import pytest

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard.invocation.records import Record, RecordGuard

Rows = list[dict[str, Any]]
guard_records = RecordGuard(lambda record: Record({"id": record}, record)).guard_records
guard_record = RecordGuard(lambda record: Record({"id": record}, record)).guard_record


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, tmp_path: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=tmp_path, project="shop")
    yield guard
    guard.close(timeout=1)


def work(record: Any) -> None:
    with braintrust.start_span("work"):
        if record == "bad":
            raise ValueError("bad")


def tree(rows: Rows) -> dict[str, list[str]]:
    """The names of the spans below each record's span, and below the root those that are not of records."""
    records = {row["span_id"]: row["metadata"]["id"] for row in rows if "id" in row.get("metadata", {})}
    found: dict[str, list[str]] = {name: [] for name in records.values()}
    for row in sorted(rows, key=lambda row: row["metrics"]["start"]):
        if row["span_parents"] and not (row["span_id"] in records and row["span_parents"][0] not in records):
            name = records.get(row["span_id"]) or row["span_attributes"]["name"]
            found.setdefault(records.get(row["span_parents"][0], "root"), []).append(name)
    return found


def failed(rows: Rows) -> list[str]:
    """The records whose spans have an error."""
    return sorted(row["metadata"]["id"] for row in rows if row["span_parents"] and "id" in row.get("metadata", {})
                  and row.get("error"))


def root_of(rows: Rows) -> dict[str, Any]:
    (root,) = [row for row in rows if not row["span_parents"]]
    return root


def run(guard: Guard, function: Callable[..., Any], records: Any) -> Any:
    result = guard.wrap(function)(records)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


# Loops


def plain(records: Any) -> None:
    for record in guard_records(records):
        work(record)
    work("after")


def continued(records: Any) -> None:
    for record in guard_records(records):
        with contextlib.suppress(ValueError):
            work(record)
            continue
    work("after")


def numbered(records: Any) -> None:
    for _number, (record, _) in enumerate(zip(guard_records(records), range(9), strict=False)):
        work(record)
    work("after")


def kept_in_a_variable(records: Any) -> None:
    guarded = guard_records(records)
    for record in guarded:
        work(record)
    work("after")


def collected_first(records: Any) -> None:
    assert [record for record in records] == list(records)  # noqa: C416 - a loop that is not asked to be guarded
    for record in guard_records(records):
        work(record)
    work("after")


def relevant(records: Any) -> Iterator[Any]:
    for record in guard_records(records):
        if record != "skipped":
            yield record


def in_a_generator(records: Any) -> None:
    for record in relevant(records):
        work(record)
    work("after")


def consumed_lazily(records: Any) -> None:
    taken = []

    def source() -> Iterator[Any]:
        for record in records:
            taken.append(record)
            yield record

    for number, record in enumerate(guard_records(source()), start=1):
        assert len(taken) == number
        work(record)
    work("after")


async def awaited(records: Any) -> None:
    for record in guard_records(records):
        await asyncio.sleep(0)
        work(record)
    work("after")


async def stream(records: Any) -> AsyncIterator[Any]:
    for record in records:
        await asyncio.sleep(0)
        yield record


async def asynchronous(records: Any) -> None:
    async for record in guard_records(stream(records)):
        await asyncio.sleep(0)
        work(record)
    work("after")


def in_a_thread(records: Any) -> None:
    def loop() -> None:
        for record in guard_records(records):
            work(record)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(loop).result()
    work("after")


LOOPS: list[Callable[..., Any]] = [
    plain, continued, numbered, kept_in_a_variable, collected_first, in_a_generator, consumed_lazily, awaited,
    asynchronous, in_a_thread,
]


@pytest.mark.parametrize("function", LOOPS)
def test_each_step_of_a_loop_has_a_span(guard: Guard, backend: MemoryBackend, function: Any) -> None:
    """Each record has a closed span with what the loop's body does below it; what comes after the loop is not."""
    run(guard, function, ["a", "b"])
    rows = backend.rows()
    assert tree(rows) == {"a": ["work"], "b": ["work"], "root": ["work"]}
    spans = sorted((row for row in rows if "id" in row.get("metadata", {})), key=lambda row: row["metrics"]["start"])
    assert [(row["span_attributes"]["name"], row["input"]) for row in spans] == [("record", "a"), ("record", "b")]
    assert spans[0]["metrics"]["end"] <= spans[1]["metrics"]["start"]
    assert "trace_guard" not in spans[0]["metadata"]
    assert root_of(rows)["metadata"]["records"] == {"done": 2}
    assert failed(rows) == []


@pytest.mark.parametrize("function", [one for one in LOOPS if one is not continued])
def test_an_exception_is_that_of_the_record_that_raised_it(
    guard: Guard, backend: MemoryBackend, function: Any
) -> None:
    """An exception in the body ends the invocation unchanged, and is recorded on its record's span alone."""
    with pytest.raises(ValueError, match=r"^bad$"):
        run(guard, function, ["a", "bad", "c"])
    rows = backend.rows()
    assert tree(rows) == {"a": ["work"], "bad": ["work"]}
    assert failed(rows) == ["bad"]
    (bad,) = [row for row in rows if row.get("metadata", {}).get("id") == "bad"]
    assert bad["error"].rstrip().endswith("ValueError: bad")
    assert "trace_guard" not in bad["metadata"]
    assert root_of(rows)["metadata"]["records"] == {"done": 1, "failed": 1}
    assert all("end" in row["metrics"] for row in rows)


def test_an_exception_in_the_body_that_is_caught(guard: Guard, backend: MemoryBackend) -> None:
    """An exception that the body handles leaves its record without an error, and the loop goes on."""
    run(guard, continued, ["a", "bad", "c"])
    assert failed(backend.rows()) == []
    assert root_of(backend.rows())["metadata"]["records"] == {"done": 3}


# Ways out of a loop


def breaks(records: Any) -> None:
    for record in guard_records(records):
        work(record)
        if record == "b":
            break
    work("after")


def returns(records: Any) -> None:
    def loop() -> None:
        for record in guard_records(records):
            work(record)
            if record == "b":
                return

    loop()
    work("after")


async def breaks_async(records: Any) -> None:
    async for record in guard_records(stream(records)):
        work(record)
        if record == "b":
            break
    work("after")


def breaks_in_a_generator(records: Any) -> None:
    for record in relevant(records):
        work(record)
        if record == "b":
            break
    work("after")


@pytest.mark.parametrize("function", [breaks, returns, breaks_async, breaks_in_a_generator])
@pytest.mark.parametrize("raises", [False, True])
def test_a_loop_that_is_left(guard: Guard, backend: MemoryBackend, function: Any, raises: bool) -> None:
    """break and return close the span of the last record without an error, also if the invocation fails later, and what
    comes then is not below it."""

    def handler(records: Any) -> None:
        result = function(records)
        if asyncio.iscoroutine(result):
            asyncio.run(result)
        if raises:
            raise LookupError("later")

    with pytest.raises(LookupError) if raises else contextlib.nullcontext():
        run(guard, handler, ["a", "b", "c"])
    rows = backend.rows()
    assert (failed(rows), root_of(rows)["metadata"]["records"]) == ([], {"done": 2})
    assert all("end" in row["metrics"] and "closed_by" not in row.get("metadata", {}).get("trace_guard", {})
               for row in rows)
    if function is not breaks_async:  # asyncio.run has a context of its own
        assert tree(rows) == {"a": ["work"], "b": ["work"], "root": ["work"]}


def again_after_break(records: Any) -> None:
    for last in ("a", "none"):
        for record in guard_records(records):
            work(record)
            if record == last:
                break


def through_finally(records: Any) -> None:
    cleaned = []
    for record in guard_records(records):
        try:
            work(record)
        finally:
            cleaned.append(record)


def raised_again(records: Any) -> None:
    for record in guard_records(records):
        try:
            work(record)
        except ValueError:
            braintrust.current_span().log(metadata={"seen": True})
            raise


def through_a_context_manager(records: Any) -> None:
    for record in guard_records(records):
        with contextlib.ExitStack() as stack:
            stack.callback(str)
            work(record)


def turned_into_another(records: Any) -> None:
    try:
        for record in guard_records(records):
            work(record)
    except ValueError as error:
        raise ValueError("could not handle the batch") from error


def turned_into_another_in_the_body(records: Any) -> None:
    for record in guard_records(records):
        try:
            work(record)
        except ValueError as error:
            raise ValueError("could not handle the record") from error


def with_a_held_generator(records: Any) -> None:
    held = relevant(records)
    for record in held:
        work(record)


@pytest.mark.parametrize("function", [
    again_after_break, through_finally, raised_again, through_a_context_manager, turned_into_another,
    turned_into_another_in_the_body, with_a_held_generator,
])
def test_ways_of_an_exception(guard: Guard, backend: MemoryBackend, function: Any) -> None:
    """An exception finds the record that raised it through finally, with, raise and raise from."""
    with pytest.raises(ValueError, match=r"bad|could not"):
        run(guard, function, ["a", "bad", "c"])
    rows = backend.rows()
    assert failed(rows) == ["bad"]
    expected = {"done": 2 if function is again_after_break else 1, "failed": 1}
    assert root_of(rows)["metadata"]["records"] == expected
    assert all("end" in row["metrics"] for row in rows)


@pytest.mark.parametrize("records", [[["a", "b"], ["c"]], [["a", "bad"], ["c"]]])
def test_loops_within_loops(guard: Guard, backend: MemoryBackend, records: Any) -> None:
    """A loop within a loop has its spans below the outer record; an exception is recorded on both."""

    def nested(batches: Any) -> None:
        for batch in guard_records(batches, name="batch"):
            for record in guard_records(batch):
                work(record)

    raises = "bad" in records[0]
    with pytest.raises(ValueError, match=r"^bad$") if raises else contextlib.nullcontext():
        run(guard, nested, records)
    rows = backend.rows()
    names = {row["span_id"]: row["span_attributes"]["name"] for row in rows}
    parents = {(names[row["span_id"]], names[row["span_parents"][0]]) for row in rows if row["span_parents"]}
    assert parents == {("batch", root_of(rows)["span_attributes"]["name"]), ("record", "batch"), ("work", "record")}
    assert {names[row["span_id"]] for row in rows if row.get("error") and "id" in row.get("metadata", {})} == (
        {"batch", "record"} if raises else set()
    )
    assert root_of(rows)["metadata"]["records"] == ({"done": 1, "failed": 2} if raises else {"done": 5})


def test_a_loop_that_never_ends_is_closed_with_its_invocation(guard: Guard, backend: MemoryBackend) -> None:
    """An iterator that somebody keeps has its span closed when the invocation ends, the innermost first."""
    kept = []

    def keeps(records: Any) -> None:
        for each in (records, records):
            kept.append(iter(guard_records(each)))
            next(kept[-1])

    run(guard, keeps, ["a", "b"])
    rows = backend.rows()
    assert [row["metadata"]["id"] for row in rows if row["span_parents"]] == ["a", "a"]
    outer, inner = sorted((row for row in rows if row["span_parents"]), key=lambda row: row["metrics"]["start"])
    assert inner["metrics"]["end"] <= outer["metrics"]["end"] <= root_of(rows)["metrics"]["end"]
    assert root_of(rows)["metadata"]["records"] == {"done": 2}
    assert list(kept[0]) == ["b"]


def test_keywords(guard: Guard, backend: MemoryBackend) -> None:
    """Name, metadata and capture of the spans can be set for a loop."""

    def handler(records: Any) -> None:
        for _ in guard_records(records, name="order", metadata={"tenant": "acme"}, capture_input=False):
            pass

    run(guard, handler, ["a"])
    (span,) = [row for row in backend.rows() if row["span_parents"]]
    assert (span["span_attributes"]["name"], span["metadata"], "input" in span) == (
        "order", {"id": "a", "tenant": "acme"}, False
    )


@pytest.mark.parametrize("disabled", [False, True])
def test_without_an_invocation(guard: Guard, backend: MemoryBackend, tmp_path: Path, disabled: bool) -> None:
    """Outside an invocation, or with tracing off, loops run as without the helper and nothing is traced."""
    seen: list[Any] = []

    def handler(records: Any) -> None:
        for record in guard_records(iter(records)):
            seen.append(record)

        async def loop() -> None:
            async for record in guard_records(stream(records)):
                seen.append(record)

        asyncio.run(loop())

    chosen = Guard(backend=backend, dir=tmp_path, disabled=True).wrap(handler) if disabled else handler
    chosen(["a", "b"])
    assert seen == ["a", "b", "a", "b"]
    assert guard.flush(5)
    assert backend.rows() == []


@pytest.mark.parametrize("records", [None, 5])
def test_what_cannot_be_iterated(guard: Guard, records: Any) -> None:
    """Something that is not iterable raises what it raises in a plain loop."""

    def handler(records: Iterable[Any]) -> None:
        for _ in guard_records(records):
            pass

    with pytest.raises(TypeError, match="not iterable"):
        run(guard, handler, records)


def test_an_exception_of_the_source(guard: Guard, backend: MemoryBackend) -> None:
    """An exception of the iterator that yields the records belongs to none of them."""

    def source() -> Iterator[str]:
        yield "a"
        raise OSError("connection lost")

    with pytest.raises(OSError, match="connection lost"):
        run(guard, plain, source())
    assert (failed(backend.rows()), root_of(backend.rows())["metadata"]["records"]) == ([], {"done": 1})


def test_a_function_and_a_loop(guard: Guard, backend: MemoryBackend) -> None:
    """A function for one record works within a guarded loop, and has its spans below those of the loop."""

    def handler(records: Any) -> None:
        for record in guard_records(records):
            guard_record(work)(record)

    run(guard, handler, ["a"])
    names = {row["span_id"]: row["span_attributes"]["name"] for row in backend.rows()}
    assert sorted((names[row["span_id"]], names[row["span_parents"][0]]) for row in backend.rows()
                  if row["span_parents"] and row["span_attributes"]["name"] != "work") == [
        ("record", root_of(backend.rows())["span_attributes"]["name"])
    ]
    assert root_of(backend.rows())["metadata"]["records"] == {"done": 2}
