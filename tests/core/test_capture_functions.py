"""Functions as ``capture_input`` and ``capture_output`` of Guard, jobs, records, Lambda and Ray."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from trace_guard import Guard, SettingsError, guard_job, step
from trace_guard.backends.memory import MemoryBackend
from trace_guard_lambda import guard_handler, guard_record
from trace_guard_ray.options import Options


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=directory, project="p", flush_timeout=15)
    yield guard
    guard.close()


def chosen(value: Any) -> Any:
    return {"chosen": value, "password": "x"}


def raises(value: Any) -> Any:
    raise ValueError(value)


def hidden(value: Any) -> Any:
    return {"chosen": value, "password": "[redacted]"}


def both(row: dict[str, Any]) -> tuple[Any, Any]:
    return row.get("input"), row.get("output")


def spans(backend: MemoryBackend) -> dict[str, dict[str, Any]]:
    return {row["span_attributes"]["name"]: row for row in backend.rows()}


def test_a_lambda_handler(guard: Guard, backend: MemoryBackend) -> None:
    """On Lambda the functions get the event and the result, and a record's own functions the record and its result."""

    @guard_record(capture_input=lambda record: record["body"], capture_output=chosen)
    def record_handler(record: Any) -> int:
        return 1

    @guard_handler(guard=guard, name="root", capture_input=lambda event: len(event["Records"]), capture_output=chosen)
    def handler(event: Any, context: Any) -> str:
        record_handler(event["Records"][0])
        return "fine"

    assert handler({"Records": [{"body": "b", "eventSource": "aws:sqs"}]}, None) == "fine"
    rows = spans(backend)
    assert both(rows["root"]) == (1, hidden("fine"))
    assert both(rows["record_handler"]) == ("b", hidden(1))


def test_a_job(guard: Guard, backend: MemoryBackend) -> None:
    """In a job the functions get the arguments, the inputs of steps, and results."""

    @guard_job(guard=guard, name="job", capture_input=chosen, capture_output=chosen, heartbeat=0)
    def main(count: int) -> int:
        with step("one", input="item") as one:
            one.set_output(2)
        return count

    assert main(3) == 3
    rows = spans(backend)
    assert both(rows["job"]) == (hidden({"args": [3], "kwargs": {}}), hidden(3))
    assert both(rows["one"]) == (hidden("item"), hidden(2))


def test_a_guard(guard: Guard, backend: MemoryBackend, directory: Path) -> None:
    """Guard takes the functions too, for all of its invocations."""
    other = Guard(backend=backend, dir=directory, project="p", capture_input=chosen, capture_output=chosen)
    with other.invocation("root", input=1) as invocation:
        invocation.set_output(2)
    assert both(spans(backend)["root"]) == (hidden(1), hidden(2))
    other.close()


def test_functions_that_raise(guard: Guard, backend: MemoryBackend, caplog: pytest.LogCaptureFixture) -> None:
    """A function that raises is reported once and logs nothing, and the handler's result stays."""
    handler = guard_handler(guard=guard, capture_input=raises, capture_output=raises)(lambda event, context: event)
    assert [handler(n, None) for n in (1, 2)] == [1, 2]
    assert [both(row) for row in backend.rows()] == [(None, None)] * 2
    warned = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    caplog.clear()
    assert warned == [
        f"trace-guard: could not call {keyword}; your code is not affected"
        for keyword in ("capture_input", "capture_output")
    ]


def test_options_of_ray_are_pickled(guard: Guard) -> None:
    """Ray sends the functions to its workers with the task."""
    options = pickle.loads(pickle.dumps(Options(guard, capture_input=chosen, capture_output=False)))
    settings = options.guard.settings
    assert (settings.capture_input, settings.capture_output) == (chosen, False)


async def is_async(value: Any) -> None: ...


@pytest.mark.parametrize("value", ["perhaps", 1.5, is_async])
def test_what_is_refused(guard: Guard, value: Any) -> None:
    """A value that is neither a boolean nor a plain function is refused where it stands, on every adapter."""
    for decorate in (guard_handler, guard_job):
        with pytest.raises(SettingsError, match="capture_output="):
            decorate(guard=guard, capture_output=value)(lambda event, context: None)
    with pytest.raises(SettingsError, match="capture_input="):
        guard_record(capture_input=value)(lambda record: None)
    with pytest.raises(SettingsError, match="capture_input="):
        Options(guard, capture_input=value)


def test_variables_are_booleans(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables take true and false only."""
    monkeypatch.setenv("TRACE_GUARD_CAPTURE_INPUT", "len")
    with pytest.raises(SettingsError, match="TRACE_GUARD_CAPTURE_INPUT"):
        Guard(backend="memory")
