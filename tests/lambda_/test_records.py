"""A span for each record of a batch, in this process: plain loops, and the batch processors of Powertools."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import inspect
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import braintrust
import pytest
from aws_lambda_powertools.utilities.batch import (
    AsyncBatchProcessor,
    BatchProcessor,
    EventType,
    SqsFifoPartialProcessor,
    async_process_partial_response,
    process_partial_response,
)
from aws_lambda_powertools.utilities.parser.models import (
    DynamoDBStreamRecordModel,
    KinesisDataStreamRecord,
    SqsRecordModel,
)

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard.invocation.invocation import current_invocation
from trace_guard.payload import REDACTED
from trace_guard.testing.steps import RECORDS, replaced
from trace_guard_lambda import guard_handler
from trace_guard_lambda.records import guard_record, guard_records

EVENTS = Path(__file__).parent / "events"
Rows = list[dict[str, Any]]


def event(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def batch(*bodies: str, name: str = "sqs") -> Any:
    """An SQS event with a record for each body, received once, twice, and so on."""
    (record,) = event(name)["Records"][:1]
    record["messageAttributes"] = {}
    records = []
    for number, body in enumerate(bodies, start=1):
        one = copy.deepcopy(record)
        one.update(messageId=f"message-{number}", body=body)
        one["attributes"]["ApproximateReceiveCount"] = str(number)
        records.append(one)
    return {"Records": records}


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=directory, project="p")
    yield guard
    guard.close()


@pytest.fixture
def invoke(guard: Guard) -> Callable[..., Any]:
    """Run a function of an event as a guarded handler."""
    return lambda body, event, context=None: guard_handler(guard=guard, name="root")(
        lambda event, context: body(event)
    )(event, context)


def root_of(rows: Rows) -> dict[str, Any]:
    (root,) = [row for row in rows if row["span_attributes"]["name"] == "root"]
    return root


def records_of(rows: Rows) -> Rows:
    """The spans below the root, by their messages."""
    children = [row for row in rows if row["span_parents"] == [root_of(rows)["span_id"]]]
    return sorted(children, key=lambda row: str(row["metadata"].get("messaging.message.id")))


def counted(rows: Rows) -> Any:
    return root_of(rows)["metadata"].get("records")


def take(record: Any) -> str:
    """A record handler that accepts records in all forms."""
    body = record["body"] if isinstance(record, dict) else record.body
    with braintrust.start_span("work"):
        if body == "bad":
            raise ValueError(f"no order in {body}")
    return str(body).upper()


def check_take(rows: Rows, name: str = "take") -> None:
    """Check one good record, one bad record and one good record, each with its child spans."""
    spans = records_of(rows)
    assert [
        (span["span_attributes"]["name"], span["metadata"]["attempt"], span.get("output"), "error" in span)
        for span in spans
    ] == [(name, 1, "ONE", False), (name, 2, None, True), (name, 3, "THREE", False)]
    assert spans[1]["error"].startswith("Traceback (most recent call last):")
    assert spans[1]["error"].rstrip().endswith("ValueError: no order in bad")
    assert counted(rows) == {"done": 2, "failed": 1}
    below = {row["span_parents"][0] for row in rows if row["span_attributes"]["name"] == "work"}
    assert below == {span["span_id"] for span in spans}
    assert {row["root_span_id"] for row in rows} == {root_of(rows)["root_span_id"]}
    assert all(row["metrics"]["end"] >= row["metrics"]["start"] for row in rows)
    assert all("trace_guard" not in span["metadata"] for span in spans)  # user code closed each of them


THREE = ("one", "bad", "three")


def test_a_plain_loop(invoke: Callable[..., Any], backend: MemoryBackend) -> None:
    """In a plain loop, each record has its span below the root, and an exception reaches the loop unchanged."""
    guarded, raised = guard_record(take), []

    def handle(event: Any) -> Any:
        for record in event["Records"]:
            try:
                guarded(record)
            except ValueError as error:
                raised.append((error, record["messageId"]))
        return {"batchItemFailures": [{"itemIdentifier": message} for _, message in raised]}

    assert invoke(handle, batch(*THREE)) == {"batchItemFailures": [{"itemIdentifier": "message-2"}]}
    check_take(backend.rows())
    assert root_of(backend.rows())["metadata"]["trace_guard"]["outcome"] == "ok"


def test_a_guarded_loop(invoke: Callable[..., Any], backend: MemoryBackend) -> None:
    """In a guarded loop, each record has its span, and the record that raised has the invocation's error."""

    def handle(event: Any) -> Any:
        for record in guard_records(event["Records"]):
            take(record)

    with pytest.raises(ValueError, match="no order in bad"):
        invoke(handle, batch(*THREE))
    spans = records_of(backend.rows())
    assert [(span["metadata"]["attempt"], "ValueError" in span.get("error", "")) for span in spans] == [
        (1, False), (2, True)
    ]
    assert counted(backend.rows()) == {"done": 1, "failed": 1}


@pytest.mark.parametrize("model", [None, SqsRecordModel], ids=["data class", "pydantic model"])
@pytest.mark.parametrize("kind", ["plain", "async", "fifo, groups skipped"])
def test_the_batch_processors_of_powertools(
    invoke: Callable[..., Any], backend: MemoryBackend, kind: str, model: Any
) -> None:
    """Powertools' processors find the failed records as without the guard, and each record has its span."""

    @guard_record
    async def take_async(record: Any) -> str:
        await asyncio.sleep(0)
        return take(record)

    def handle(event: Any) -> Any:
        if kind == "plain":
            return process_partial_response(
                event, guard_record(take), BatchProcessor(EventType.SQS, model=model)
            )
        if kind == "async":
            return async_process_partial_response(
                event, take_async, AsyncBatchProcessor(EventType.SQS, model=model)
            )
        return process_partial_response(
            event, guard_record(take), SqsFifoPartialProcessor(model=model, skip_group_on_error=True)
        )

    given = batch(*THREE, name="sqs_fifo" if "fifo" in kind else "sqs")
    for number, record in enumerate(given["Records"]):
        if "fifo" in kind:
            record["attributes"]["MessageGroupId"] = f"group-{number}"
    result = invoke(handle, given)
    assert result == {"batchItemFailures": [{"itemIdentifier": "message-2"}]}
    check_take(backend.rows(), "take_async" if kind == "async" else "take")


def test_a_skipped_record_has_no_span(invoke: Callable[..., Any], backend: MemoryBackend) -> None:
    """A record that a FIFO queue's processor fails without a call of its handler has no span and is not counted."""

    def handle(event: Any) -> Any:
        return process_partial_response(event, guard_record(take), SqsFifoPartialProcessor())

    result = invoke(handle, batch("one", "bad", "three", name="sqs_fifo"))
    assert [one["itemIdentifier"] for one in result["batchItemFailures"]] == ["message-2", "message-3"]
    assert len(records_of(backend.rows())) == 2
    assert counted(backend.rows()) == {"done": 1, "failed": 1}


def test_the_lambda_context_is_passed_on(invoke: Callable[..., Any], backend: MemoryBackend) -> None:
    """A record handler that asks Powertools for the Lambda context gets it through the guard."""
    context, seen = object(), []

    @guard_record(name="mine")
    def handler(record: Any, lambda_context: Any = None) -> None:
        seen.append(lambda_context)

    def handle(event: Any) -> Any:
        return process_partial_response(event, handler, BatchProcessor(EventType.SQS), context)

    invoke(handle, batch("one"))
    assert seen == [context]
    assert [row["span_attributes"]["name"] for row in records_of(backend.rows())] == ["mine"]


def test_a_batch_that_fails_completely(invoke: Callable[..., Any], backend: MemoryBackend) -> None:
    """If all records fail, Powertools' own error reaches the caller and is recorded on the root beside the counts."""

    def handle(event: Any) -> Any:
        return process_partial_response(event, guard_record(take), BatchProcessor(EventType.SQS))

    with pytest.raises(Exception, match="All records failed processing"):
        invoke(handle, batch("bad", "bad"))
    root = root_of(backend.rows())
    assert (counted(backend.rows()), root["metadata"]["trace_guard"]["outcome"]) == ({"failed": 2}, "error")
    assert "BatchProcessingError" in root["error"]


# The metadata of a record

SAYS: dict[str, dict[str, Any]] = {
    "sqs_batch": {
        "messaging.system": "aws_sqs", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": "tickets", "messaging.message.id": "0f3b0c4e-77a1-4d3b-9c53-6e1f0a9b8c01",
        "aws.sqs.approximate_receive_count": 1, "attempt": 1,
        "aws.lambda.event_source.arn": "arn:aws:sqs:eu-central-1:210987654321:tickets",
        "aws.lambda.event_source.type": "sqs",
        "links": [{
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "braintrust.parent": "project_id:7d1c0f8e-5a55-4b0e-9a3c-1f2e3d4c5b6a",
        }],
    },
    "kinesis": {
        "messaging.system": "aws_kinesis", "messaging.operation.name": "process",
        "messaging.operation.type": "process", "messaging.destination.name": "clicks",
        "messaging.destination.partition.id": "shardId-000000000007",
        "messaging.message.id":
            "shardId-000000000007:49603100000000000000000000000000000000000000000000000001",
        "aws.kinesis.stream_name": "clicks",
        "aws.kinesis.sequence_number": "49603100000000000000000000000000000000000000000000000001",
        "aws.lambda.event_source.arn": "arn:aws:kinesis:eu-central-1:210987654321:stream/clicks",
        "aws.lambda.event_source.type": "kinesis",
        "links": [{
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "braintrust.parent": "project_id:7d1c0f8e-5a55-4b0e-9a3c-1f2e3d4c5b6a",
        }],
    },
    "dynamodb": {
        "faas.document.collection": "Tickets", "faas.document.operation": "edit",
        "aws.dynamodb.table_names": ["Tickets"], "aws.dynamodb.event_id": "c81e728d9d4c2f636f067f89cc148621",
        "aws.dynamodb.sequence_number": "421312120000000001",
        "aws.lambda.event_source.arn":
            "arn:aws:dynamodb:eu-central-1:210987654321:table/Tickets/stream/2025-10-01T00:00:00.000",
        "aws.lambda.event_source.type": "dynamodb",
    },
    "msk": {
        "messaging.system": "kafka", "messaging.operation.name": "process", "messaging.operation.type": "process",
        "messaging.destination.name": "orders", "messaging.destination.partition.id": "0",
        "messaging.kafka.offset": 1500, "aws.lambda.event_source.type": "kafka",
        "links": [{
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "braintrust.parent": "project_id:7d1c0f8e-5a55-4b0e-9a3c-1f2e3d4c5b6a",
        }],
    },
}


def first_of(given: Any) -> Any:
    records = given.get("Records") or next(iter(given["records"].values()))
    return records[0]


@pytest.mark.parametrize("source", SAYS)
def test_a_record_has_its_metadata(invoke: Callable[..., Any], backend: MemoryBackend, source: str) -> None:
    """A record's span has its ids, source and attempt with OpenTelemetry's names and a link to the record's trace,
    and stays below the invocation's root."""
    invoke(lambda given: guard_record(lambda record: None)(first_of(event(source))), {})
    (child,) = records_of(backend.rows())
    assert child["metadata"] == SAYS[source]
    assert "hunter2" not in json.dumps(child["metadata"])


@pytest.mark.parametrize("source", SAYS)
def test_a_record_of_a_guarded_loop_has_the_same_metadata(
    invoke: Callable[..., Any], backend: MemoryBackend, source: str
) -> None:
    """A record's span in a guarded loop has the same metadata as that of a guarded function."""

    def handle(given: Any) -> None:
        for _ in guard_records(iter([first_of(event(source))])):
            pass

    invoke(handle, {})
    (child,) = records_of(backend.rows())
    assert (child["span_attributes"]["name"], child["metadata"]) == ("record", SAYS[source])


@pytest.mark.parametrize(
    ("source", "model"),
    [("sqs_batch", SqsRecordModel), ("kinesis", KinesisDataStreamRecord), ("dynamodb", DynamoDBStreamRecordModel)],
)
def test_a_model_has_the_same_metadata(
    invoke: Callable[..., Any], backend: MemoryBackend, source: str, model: Any
) -> None:
    """A record that Powertools has parsed into a pydantic model has the same metadata as the plain record."""
    parsed = model.model_validate(first_of(event(source)))
    invoke(lambda event: guard_record(lambda record: None)(parsed), {})
    (child,) = records_of(backend.rows())
    expected = dict(SAYS[source])
    if source == "kinesis":
        expected.pop("links")  # the model has decoded the data that contained them
    assert child["metadata"] == expected


@pytest.mark.parametrize("record", [None, 5, "text", [], {}, {"eventSource": 7}, {"Sns": []}, object(), SqsRecordModel])
def test_odd_records_do_no_harm(invoke: Callable[..., Any], backend: MemoryBackend, record: Any) -> None:
    """Any record reaches its handler unchanged, and its span is closed."""
    seen: list[Any] = []
    invoke(lambda event: guard_record(seen.append)(record), {})
    assert seen == [record]
    assert [row["metrics"]["end"] > 0 for row in backend.rows()] == [True, True]
    assert counted(backend.rows()) == {"done": 1}


# Captured input and output


def test_record_and_result_are_captured(guard: Guard, backend: MemoryBackend) -> None:
    """The record and the result are redacted, cut or left out according to the invocation's guard, unless
    guard_record overrides it. Each span has the given metadata."""
    record = batch('{"password": "hunter2", "n": 1}')["Records"][0]

    def handle(event: Any, context: Any) -> Any:
        guard_record(lambda record: {"token": "hunter2"}, name="as the guard")(record)
        guard_record(lambda record: 2, name="all", capture_input=True, capture_output=True)(record)
        guard_record(lambda record: 3, name="none", capture_input=False, capture_output=False,
                     metadata={"tenant": "acme"})(record)

    guard_handler(handle, guard=guard)(None, None)
    guard_handler(handle, guard=guard, capture_input=False, capture_output=False)(None, None)
    spans = [row for row in backend.rows() if row["span_parents"]]
    redacted = {**record, "body": f'{{"password": "{REDACTED}", "n": 1}}'}
    found = [(row["span_attributes"]["name"], row.get("input"), row.get("output")) for row in spans]
    assert found == [
        ("as the guard", redacted, {"token": REDACTED}), ("all", redacted, 2), ("none", None, None),
        ("as the guard", None, None), ("all", redacted, 2), ("none", None, None),
    ]
    assert [row["metadata"].get("tenant") for row in spans] == [None, None, "acme"] * 2


# Kinds of handlers


class Worker:
    def __init__(self) -> None:
        self.seen: list[Any] = []

    @guard_record
    def work(self, message: Any, *, dry: bool = False) -> None:
        """Say what."""
        self.seen.append((message, dry))


def test_a_method_may_be_a_record_handler(invoke: Callable[..., Any], backend: MemoryBackend) -> None:
    """A method works too, whatever its parameter's name, and keeps its name, documentation and signature."""
    worker, record = Worker(), batch("one")["Records"][0]

    def handle(event: Any) -> None:
        worker.work(record)
        worker.work(message=record, dry=True)

    invoke(handle, None)
    assert worker.seen == [(record, False), (record, True)]
    assert [row["metadata"]["messaging.message.id"] for row in records_of(backend.rows())] == ["message-1"] * 2
    assert (Worker.work.__name__, Worker.work.__doc__) == ("work", "Say what.")
    assert list(inspect.signature(Worker.work).parameters) == ["self", "message", "dry"]
    assert not inspect.iscoroutinefunction(Worker.work)


def test_records_are_children_of_the_current_span(invoke: Callable[..., Any], backend: MemoryBackend) -> None:
    """Below a span that the user starts around the loop, the records' spans are its children."""

    def handle(event: Any) -> None:
        with braintrust.start_span("loop"):
            guard_record(take)(batch("one")["Records"][0])

    invoke(handle, None)
    names = {row["span_id"]: row["span_attributes"]["name"] for row in backend.rows()}
    parents = {row["span_attributes"]["name"]: [names[one] for one in row["span_parents"] or ()]
               for row in backend.rows()}
    assert parents == {"root": [], "loop": ["root"], "take": ["loop"], "work": ["take"]}


@pytest.mark.parametrize("given", [True, False])
def test_threads_of_a_pool(invoke: Callable[..., Any], backend: MemoryBackend, given: bool) -> None:
    """Records that are handled in threads have their spans below the root, with or without the handler's context."""
    guarded, results = guard_record(take), []

    def handle(event: Any) -> None:
        with ThreadPoolExecutor(3) as pool:
            futures = [
                pool.submit(contextvars.copy_context().run, guarded, record) if given else pool.submit(guarded, record)
                for record in event["Records"]
            ]
        results.extend(future.exception() or future.result() for future in futures)

    invoke(handle, batch(*THREE))
    check_take(backend.rows())
    assert [str(one) for one in results] == ["ONE", "no order in bad", "THREE"]


def test_outside_an_invocation_nothing_is_traced(guard: Guard, backend: MemoryBackend) -> None:
    """Outside a guarded invocation, as in unit tests, a record handler behaves as if unguarded."""
    guarded = guard_record(lambda record: record)
    assert guarded(record := object()) is record

    @guard_record
    async def slow(record: Any) -> Any:
        return record

    assert asyncio.run(slow(record)) is record
    assert current_invocation() is None
    assert guard.flush(5)
    assert backend.rows() == []


# How a record ends


class Stop(BaseException):
    """An exception that ``except Exception`` does not catch."""


@pytest.mark.parametrize("error", [Stop(), SystemExit(3), KeyboardInterrupt(), ValueError("no")], ids=repr)
@pytest.mark.parametrize("kind", ["plain", "async"])
def test_every_exception_is_raised_unchanged(
    guard: Guard, backend: MemoryBackend, error: BaseException, kind: str
) -> None:
    """Any exception leaves a record handler as the same object, after its span is closed with it."""

    def handler(record: Any) -> None:
        raise error

    async def slow(record: Any) -> None:
        raise error

    def handle(event: Any, context: Any) -> Any:
        if kind == "plain":
            return guard_record(handler)(event)
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(guard_record(slow)(event))
        finally:
            loop.close()

    with pytest.raises(BaseException) as caught:  # noqa: PT011 - which one it is is compared
        guard_handler(handle, guard=guard, name="root")({}, None)
    assert caught.value is error
    (child,) = [row for row in backend.rows() if row["span_parents"]]
    assert type(error).__name__ in child["error"].rstrip().splitlines()[-1]
    assert counted(backend.rows()) == {"failed": 1}
    assert "trace_guard" not in child["metadata"]


def test_a_cancelled_record(invoke: Callable[..., Any], backend: MemoryBackend) -> None:
    """The span of a record whose task is cancelled is closed as cancelled, and the cancellation continues."""

    @guard_record
    async def wait(record: Any) -> None:
        await asyncio.sleep(60)

    async def handle() -> bool:
        task = asyncio.ensure_future(wait({}))
        await asyncio.sleep(0)
        task.cancel()
        return (await asyncio.gather(task, return_exceptions=True))[0].__class__ is asyncio.CancelledError

    def run(event: Any) -> bool:
        loop = asyncio.new_event_loop()
        try:
            return loop.run_until_complete(handle())
        finally:
            loop.close()

    assert invoke(run, {}) is True
    (child,) = [row for row in backend.rows() if row["span_parents"]]
    assert "CancelledError" in child["error"]
    assert "trace_guard" not in child["metadata"]


@pytest.mark.parametrize("step", RECORDS)
def test_our_faults_reach_no_record_handler(
    guard: Guard, backend: MemoryBackend, step: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If any of our steps fails, record handlers return and raise as usual, and no span stays open."""
    error = ValueError("their own")

    def bad(record: Any) -> None:
        raise error

    def fail(*args: Any, **keywords: Any) -> Any:
        raise RuntimeError("a fault of ours")

    def handle(event: Any, context: Any) -> Any:
        with replaced(step, fail) as calls:
            result = guard_record(lambda record: record)(event)
            with pytest.raises(ValueError, match="their own") as caught:
                guard_record(bad)(event)
            assert [record for record in guard_records([event])] == [event]  # noqa: C416
            with pytest.raises(ValueError, match="their own"):  # noqa: PT012 - the loop is what is tested
                for record in guard_records([event]):
                    bad(record)
        assert calls.count
        return result, caught.value

    given = {"messageId": "1"}
    result, raised = guard_handler(handle, guard=guard)(given, None)
    assert result is given
    assert raised is error
    assert guard.flush(5)
    assert [row["span_attributes"]["name"] for row in backend.rows() if "end" not in row["metrics"]] == []
    caplog.clear()  # the test caused these faults
