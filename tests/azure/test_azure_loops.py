"""Which loops over a batch have a span for each message."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import azure.functions as func
import braintrust
import pytest

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_azure import batches, guard_handler


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


def work(message: Any) -> None:
    with braintrust.start_span("work") as span:
        span.log(input=message.message_id)
        if message.message_id == "bad":
            raise ValueError("bad")


def numbered(given: Any) -> None:
    for _index, message in enumerate(given, start=1):
        work(message)


def zipped(given: Any) -> None:
    for message, _ in zip(given, range(9), strict=False):
        work(message)


def twice(given: Any) -> None:
    for _index, message in enumerate(given):
        assert [number for number, _ in enumerate(given)] == [0, 1]
        for _number, _other in enumerate(given):
            pass
        work(message)


def in_a_list(given: Any) -> None:
    for message in list(given):
        work(message)


def in_order(given: Any) -> None:
    for message in sorted(given, key=lambda one: one.message_id):
        work(message)


def collected(given: Any) -> None:
    assert len([one for _ in "ab" for one in given]) == 4
    assert len({one.message_id for _ in "ab" for one in given}) == 2
    for message in given:
        work(message)


def listed_first(given: Any) -> None:
    for _ in list(given):
        pass
    for message in given:
        work(message)


def run(guard: Guard, function: Callable[..., Any], *ids: str) -> None:
    guard_handler(guard=guard)(function)(given=[
        func.servicebus.ServiceBusMessage(
            body=b"", message_id=one, application_properties={}, user_properties={}, delivery_count=1
        ) for one in ids
    ])


@pytest.mark.parametrize(("function", "each"), [
    (numbered, True), (zipped, True), (twice, True), (in_a_list, False), (in_order, False), (collected, True),
    (listed_first, True),
])
def test_a_for_statement(guard: Guard, backend: MemoryBackend, function: Any, each: bool) -> None:
    """The first for statement that comes to one message after the other has a span for each, also through enumerate;
    what takes all messages at once has none, nor has a comprehension within a comprehension."""
    run(guard, function, "a", "b")
    rows = backend.rows()
    messages = [row["span_id"] for row in rows if row["span_attributes"]["name"] == "message"]
    (root,) = [row["span_id"] for row in rows if not row["span_parents"]]
    assert [row["span_parents"][0] for row in rows if row["span_attributes"]["name"] == "work"] == (
        messages if each else [root, root]
    )
    assert len(messages) == (2 if each else 0)
    assert all("end" in row["metrics"] for row in rows)


def test_an_exception_in_a_numbered_loop(guard: Guard, backend: MemoryBackend) -> None:
    """An exception that leaves a loop over enumerate stands on the message that it was raised for."""
    with pytest.raises(ValueError, match=r"^bad$"):
        run(guard, numbered, "a", "bad", "c")
    rows = backend.rows()
    errors = [row.get("error") or "" for row in rows if row["span_attributes"]["name"] == "message"]
    assert ["ValueError: bad" in one for one in errors] == [False, True]
    (root,) = [row for row in rows if not row["span_parents"]]
    assert root["metadata"]["records"] == {"done": 1, "failed": 1}
