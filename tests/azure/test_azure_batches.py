"""A span for each message of a batch: in a guarded loop, and in functions for single messages."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import azure.functions as func
import braintrust
import pytest

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_azure import guard_handler, guard_record, guard_records

Rows = list[dict[str, Any]]


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, tmp_path: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=tmp_path, project="shop")
    yield guard
    guard.close(timeout=1)


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
    """The inputs or names of the spans below each message, in order."""
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


EACH = {"a": ["work"], "b": ["work"]}


def loop(given: Any) -> None:
    for one in guard_records(given):
        work(body_of(one))


async def async_loop(given: Any) -> None:
    for one in guard_records(given):
        await asyncio.sleep(0)
        work(body_of(one))


def second_loop(given: Any) -> None:
    bodies = {id(one): body_of(one) for one in given}
    assert len(given) == 2
    for one in guard_records(given):
        work(bodies[id(one)])


def relevant(given: Any) -> Iterator[Any]:
    yield from guard_records(given)


def generator(given: Any) -> None:
    for one in relevant(given):
        work(body_of(one))


def threads(given: Any) -> None:
    def chunk(some: Any) -> None:
        for one in guard_records(some):
            work(body_of(one))

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(chunk, [given[:1], given[1:]]))


LOOPS = [loop, async_loop, second_loop, generator, threads]


@pytest.mark.parametrize("function", LOOPS)
def test_a_guarded_loop(guard: Guard, backend: MemoryBackend, function: Any) -> None:
    """Each message of a guarded loop has a span with its ids, wherever the loop is, and the batch is unchanged."""
    given, seen = messages("a", "b"), []

    async def keeps(given: Any) -> None:
        seen.append(given)
        result = function(given)
        if asyncio.iscoroutine(result):
            await result

    run(guard_handler(guard=guard)(keeps), given)
    rows = backend.rows()
    assert seen[0] is given
    assert tree(rows) == EACH
    assert root_of(rows)["metadata"]["records"] == {"done": 2}
    (first,) = [row for row in rows if row["input"] == "a" and row["span_attributes"]["name"] == "message"]
    assert first["metadata"] == {"messaging.message.id": "a", "messaging.servicebus.message.delivery_count": 1}
    assert all("end" in row["metrics"] for row in rows)


@pytest.mark.parametrize("function", LOOPS)
def test_an_exception_in_a_loop(guard: Guard, backend: MemoryBackend, function: Any) -> None:
    """An exception that leaves the loop is recorded on the message's span and on the root, and reaches the worker."""
    with pytest.raises(ValueError, match=r"^bad$"):
        run(guard_handler(guard=guard)(function), messages("a", "bad"))
    rows = backend.rows()
    assert tree(rows) == {"a": ["work"], "bad": ["work"]}
    errors = {row["input"]: row.get("error") for row in rows if row["span_attributes"]["name"] == "message"}
    assert errors["a"] is None
    assert "ValueError: bad" in errors["bad"]
    assert root_of(rows)["metadata"]["records"] == {"done": 1, "failed": 1}


@pytest.mark.parametrize("given", [
    messages("a", "b"), func.DocumentList([func.Document({"id": "d1"}), func.Document({"id": "d2"})]),
])
def test_a_plain_loop_is_left_alone(guard: Guard, backend: MemoryBackend, given: Any) -> None:
    """A function gets the same batch object that the worker passes, and a plain loop has no spans."""
    seen: list[Any] = []

    @guard_handler(guard=guard)
    def function(given: Any) -> None:
        seen.append(given)
        seen.extend(one for one in given)

    function(given=given)
    assert seen[0] is given
    assert all(one is other for one, other in zip(seen[1:], given, strict=True))
    assert [row["span_parents"] for row in backend.rows()] == [None]


def test_documents_and_events(guard: Guard, backend: MemoryBackend) -> None:
    """Documents and events have their own ids and trace contexts, also if each event has the metadata of the whole
    batch."""
    carrier = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    metadata = {
        "SystemPropertiesArray": json.dumps([{"SequenceNumber": 7}, {"SequenceNumber": 8}]),
        "PropertiesArray": json.dumps([{}, carrier]),
    }
    events = [EventHubEvent(number, metadata) for number in (7, 8)]

    @guard_handler(guard=guard)
    def function(given: Any) -> None:
        for _ in guard_records(func.DocumentList([func.Document({"id": "d1"})])):
            pass
        for _ in guard_records(given):
            pass

    function(given=events)
    spans = sorted((row for row in backend.rows() if row["span_parents"]), key=lambda row: row["metrics"]["start"])
    assert [row["metadata"] for row in spans] == [
        {"faas.document.name": "d1"}, {"azure.eventhubs.sequence_number": 7},
        {"azure.eventhubs.sequence_number": 8, "links": [carrier]},
    ]


class EventHubEvent:
    """An event of a batch as the worker makes it, with the metadata of all events."""

    def __init__(self, sequence_number: int, metadata: dict[str, str]) -> None:
        self.sequence_number = sequence_number
        self.metadata = metadata

    def get_body(self) -> bytes:
        return b"{}"


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
    """Each call of a function for a message is a span, in tasks, threads and loops."""

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
