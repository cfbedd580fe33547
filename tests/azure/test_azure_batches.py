"""A span for each message of a batch: in the loop over it, and in functions for single messages."""

from __future__ import annotations

import asyncio
import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import azure.functions as func
import braintrust
import pytest

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_azure import batches, guard_handler, guard_record

Rows = list[dict[str, Any]]


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, tmp_path: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=tmp_path, project="shop")
    yield guard
    guard.close(timeout=1)


@pytest.fixture(autouse=True)
def _loops_count(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other tests' functions for single messages are not of this app."""
    monkeypatch.setattr(batches, "_loops_are_left_alone", False)


def messages(*bodies: str) -> list[Any]:
    return [
        func.servicebus.ServiceBusMessage(
            body=body.encode(), message_id=body, application_properties={}, user_properties={}, delivery_count=1
        ) for body in bodies
    ]


def body_of(message: Any) -> str:
    return str(message.get_body().decode())


@braintrust.traced
def work(body: str) -> str:
    if body == "bad":
        raise ValueError("bad")
    return body


def run(function: Callable[..., Any], given: Any) -> Any:
    result = function(given=given)
    return asyncio.run(result) if asyncio.iscoroutine(result) else result


def tree(rows: Rows) -> dict[str, list[str]]:
    """The inputs or names below each message, in order."""
    children = sorted((row for row in rows if row["span_parents"]), key=lambda row: row["metrics"]["start"])
    names = {row["span_id"]: row["input"] for row in children if row["span_attributes"]["name"] in ("message", "one")}
    found: dict[str, list[str]] = {name: [] for name in names.values()}
    for row in children:
        if row["span_id"] not in names:
            found.setdefault(names.get(row["span_parents"][0], "root"), []).append(row["span_attributes"]["name"])
    return found


def root_of(rows: Rows) -> dict[str, Any]:
    (root,) = [row for row in rows if not row["span_parents"]]
    return root


def loop(given: Any) -> None:
    for one in given:
        work(body_of(one))


async def async_loop(given: Any) -> None:
    for one in given:
        await asyncio.sleep(0)
        work(body_of(one))


def second_loop(given: Any) -> None:
    assert [body_of(one) for one in given] == sorted(body_of(one) for one in list(given))
    assert len(tuple(one for one in given)) == 2
    for one in given:
        work(body_of(one))
    for one in given:
        body_of(one)


def indexed(given: Any) -> None:
    for index in range(len(given)):
        work(body_of(given[index]))


def left(given: Any) -> None:
    for one in given:
        work(body_of(one))
        if body_of(one) == "b":
            break
    work("after")


EACH = {"a": ["work"], "b": ["work"]}


@pytest.mark.parametrize(("function", "expected", "counted"), [
    (loop, EACH, {"done": 2}), (async_loop, EACH, {"done": 2}), (second_loop, EACH, {"done": 2}),
    (indexed, {"root": ["work", "work"]}, None), (left, {**EACH, "root": ["work"]}, {"done": 2}),
])
def test_a_loop_over_a_batch(
    guard: Guard, backend: MemoryBackend, function: Any, expected: Any, counted: Any
) -> None:
    """The first for statement over the messages has a span for each; what collects or counts them has none."""
    given = messages("a", "b")
    run(guard_handler(guard=guard)(function), given)
    rows = backend.rows()
    assert tree(rows) == expected
    assert root_of(rows)["metadata"].get("records") == counted
    assert all("end" in row["metrics"] for row in rows)


@pytest.mark.parametrize("function", [loop, async_loop])
def test_an_exception_in_a_loop(guard: Guard, backend: MemoryBackend, function: Any) -> None:
    """An exception that leaves the loop stands on the message's span and on the root, and reaches the worker."""
    with pytest.raises(ValueError, match=r"^bad$"):
        run(guard_handler(guard=guard)(function), messages("a", "bad", "c"))
    rows = backend.rows()
    assert tree(rows) == {"a": ["work"], "bad": ["work"]}
    errors = {row["input"]: row.get("error") for row in rows if row["span_attributes"]["name"] == "message"}
    assert errors["a"] is None
    assert "ValueError: bad" in errors["bad"]
    assert root_of(rows)["metadata"]["records"] == {"done": 1, "failed": 1}


def test_an_exception_after_a_loop_that_was_left(guard: Guard, backend: MemoryBackend) -> None:
    """An exception that comes after the loop was left is none of the message's."""

    @guard_handler(guard=guard)
    def function(given: Any) -> None:
        for one in given:
            work(body_of(one))
            break
        raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        function(given=messages("a", "b"))
    (message,) = [row for row in backend.rows() if row["span_attributes"]["name"] == "message"]
    assert message.get("error") is None
    assert root_of(backend.rows())["metadata"]["records"] == {"done": 1}


@pytest.mark.parametrize("plain", [
    messages("a", "b"), func.DocumentList([func.Document({"id": "d1"}), func.Document({"id": "d2"})]),
])
def test_the_list_is_what_it_was(guard: Guard, plain: Any) -> None:
    """The list is of the class that it was, equal to it, and behaves so when copied, cut, added to and pickled."""
    seen = {}

    @guard_handler(guard=guard)
    def function(given: Any) -> None:
        seen.update(given=given, copied=copy.copy(given), cut=given[:1], sum=given + given)

    function(given=plain)
    assert isinstance(seen["given"], type(plain))
    assert type(seen["given"]).__name__ == type(plain).__name__
    assert seen["given"] == plain == seen["copied"]
    assert all(one is other for one, other in zip(seen["given"], plain, strict=True))
    assert (list(seen["cut"]), len(seen["sum"])) == (list(plain)[:1], 4)


def test_a_batch_can_be_pickled(guard: Guard) -> None:
    """A batch goes to another process as the list that it was."""

    @guard_handler(guard=guard)
    def function(given: Any) -> bytes:
        return pickle.dumps(given)

    for plain in (["a", "b"], func.DocumentList([{"id": "d1"}])):
        found = pickle.loads(function(given=plain))
        assert type(found) is type(plain)
        assert found == plain


def gathered(one: Callable[[Any], Any]) -> Any:
    async def function(given: Any) -> None:
        await asyncio.gather(*(one(each) for each in given))

    return function


def threaded(one: Callable[[Any], Any]) -> Any:
    def function(given: Any) -> None:
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(one, given))

    return function


def looped(one: Callable[[Any], Any]) -> Any:
    def function(given: Any) -> None:
        for each in given:
            one(each)

    return function


@pytest.mark.parametrize("kind", [gathered, threaded, looped])
def test_functions_for_single_messages(guard: Guard, backend: MemoryBackend, kind: Any) -> None:
    """Each call of a function for a message is a span, in tasks, threads and loops, and then the loop has none."""

    def one(message: Any) -> str:
        return work(body_of(message))

    async def one_async(message: Any) -> str:
        await asyncio.sleep(0)
        return work(body_of(message))

    chosen = one_async if kind is gathered else one
    chosen.__name__ = "one"
    run(guard_handler(guard=guard)(kind(guard_record(chosen))), messages("a", "b"))
    rows = backend.rows()
    assert tree(rows) == EACH
    assert root_of(rows)["metadata"]["records"] == {"done": 2}
    (first,) = [row for row in rows if row["input"] == "a" and row["span_attributes"]["name"] == "one"]
    assert first["output"] == "a"
    assert first["metadata"] == {"messaging.message.id": "a", "messaging.servicebus.message.delivery_count": 1}
