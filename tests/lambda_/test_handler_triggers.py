"""How the decorator handles events and results of every kind of trigger."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from recorded_events import EVENTS, OTHER, TRACED, TRACEPARENT, recorded

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard_lambda import guard_handler
from trace_guard_lambda.triggers import describe

TRACE, PARENT = TRACEPARENT.split("-")[1:3]


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Path) -> Any:
    guard = Guard(backend=backend, dir=directory, project="p")
    yield guard
    guard.close()


def run(guard: Guard, event: Any, result: Any = None, **keywords: Any) -> None:
    assert guard_handler(guard=guard, **keywords)(lambda event, context: result)(event, None) is result


@pytest.mark.parametrize("asynchronous", [False, True])
def test_every_event_is_one_closed_trace(guard: Guard, backend: MemoryBackend, asynchronous: bool) -> None:
    """Any event gives a closed root with the trigger's name and kind."""

    async def coroutine(event: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        return event

    handler = guard_handler(guard=guard)(coroutine if asynchronous else lambda event, context: event)
    for name in EVENTS:
        before, event = len(backend.rows()), recorded(name)
        handler(event, None)
        row = backend.rows()[-1]
        described = describe(event)
        assert len(backend.rows()) == before + 1, name
        assert row["span_attributes"]["name"] == (described.name or "lambda"), name
        assert row["metadata"]["faas.trigger"] == described.trigger, name
        assert row["metrics"]["end"] >= row["metrics"]["start"], name


def test_a_parent_in_braintrust_is_adopted(guard: Guard, backend: MemoryBackend) -> None:
    """A request that comes from a span in Braintrust becomes a child of that span."""
    event = recorded("api_gateway_http")
    event["headers"].update(TRACED)
    run(guard, event)
    (row,) = backend.rows()
    assert (row["root_span_id"], row["span_parents"]) == (TRACE, [PARENT])


def test_a_foreign_parent_is_metadata(guard: Guard, backend: MemoryBackend) -> None:
    """Ids of another tracing system are recorded as metadata and do not become a parent that Braintrust lacks."""
    event = recorded("api_gateway_http")
    event["headers"] = {"traceparent": OTHER}
    run(guard, event)
    (row,) = backend.rows()
    assert row["span_parents"] is None
    assert row["metadata"]["traceparent"] == OTHER


def test_an_extractor_may_find_the_parent(guard: Guard, backend: MemoryBackend) -> None:
    """A parent that the user's extractor finds is adopted. An extractor that finds none changes nothing."""
    run(guard, {"job": {"trace": TRACED}}, extract=lambda event, context: event["job"]["trace"])
    run(guard, {"job": {}}, extract=lambda event, context: None)
    found, none = backend.rows()
    assert (found["root_span_id"], found["span_parents"]) == (TRACE, [PARENT])
    assert none["span_parents"] is None


def test_an_extractor_that_raises_is_ignored(
    guard: Guard, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """An extractor that raises is reported, and the invocation is traced without its parent."""
    run(guard, {}, extract=lambda event, context: event["nothing"])
    assert "could not call extract" in caplog.text
    caplog.clear()
    assert [row["span_parents"] for row in backend.rows()] == [None]


@pytest.mark.parametrize(("status", "outcome"), [(200, "ok"), (404, "ok"), (502, "error")])
def test_the_status_decides(guard: Guard, backend: MemoryBackend, status: int, outcome: str) -> None:
    """A response of 500 and above makes the root an error, and every status is recorded."""
    run(guard, recorded("api_gateway_http"), {"statusCode": status, "body": "{}"})
    (row,) = backend.rows()
    assert row["metadata"]["http.response.status_code"] == status
    assert row["metadata"]["trace_guard"] == {"outcome": outcome}
    assert row.get("error") == (f"HTTP {status}" if outcome == "error" else None)
    assert row["output"] == {"statusCode": status, "body": "{}"}


def test_a_partly_failed_batch_is_counted(guard: Guard, backend: MemoryBackend) -> None:
    """The failed records of a batch are counted on the root, which is no error while other records succeed."""
    event = recorded("sqs_batch")
    failed = event["Records"][0]["messageId"]
    run(guard, event, {"batchItemFailures": [{"itemIdentifier": failed}]})
    (row,) = backend.rows()
    assert row["metadata"]["batch"] == {"failed": 1, "count": len(event["Records"])}
    assert row["metadata"]["trace_guard"] == {"outcome": "ok"}
