"""The metadata of one record of a batch, read as if it were the only record of an event."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from trace_guard.invocation.reading import mapping, number, text

from .triggers import describe, parentage

__all__ = ["facts_of_record", "plain_record"]

_EVENTS: tuple[tuple[tuple[str, ...], Callable[[Any], Any]], ...] = (
    (("topic", "offset"), lambda record: {"eventSource": "aws:kafka", "records": {"": [record]}}),
    (("messageID", "destination"), lambda record: {"eventSource": "aws:mq", "messages": [record]}),
    (("basicProperties", "redelivered"), lambda record: {
        "eventSource": "aws:rmq", "rmqMessagesByQueue": {"": [record]},
    }),
    (("recordId", "data"), lambda record: {"deliveryStreamArn": None, "records": [record]}),
    (("taskId", "s3Key"), lambda record: {"invocationSchemaVersion": None, "job": None, "tasks": [record]}),
    (("info", "arguments"), lambda record: [record]),
)
"""The keys of a record that does not name its source, and the event that has only this record."""


def plain_record(record: Any) -> Mapping[str, Any]:
    """A record as a mapping with the names of Lambda's event. Powertools' data classes are mappings, and a pydantic
    model is dumped. Empty for anything else."""
    dump = None if isinstance(record, Mapping) else getattr(record, "model_dump", None)
    return mapping(dump(by_alias=True) if callable(dump) and not isinstance(record, type) else record)


def facts_of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a record's span: source, ids and attempt, with the names of :mod:`.triggers`, and never the
    record's content. ``links`` refers to the trace that the record comes from; the root of the batch stays the
    parent."""
    description = describe(_event_of(record))
    facts = {key: value for key, value in description.metadata.items() if key != "messaging.batch.message_count"}
    attributes = mapping(record.get("attributes"))
    more = {
        "attempt": number(attributes.get("ApproximateReceiveCount")),
        "aws.sqs.message_group_id": text(attributes.get("MessageGroupId")),
        # The result of a stream's batch identifies failed records by these.
        "aws.kinesis.sequence_number": text(mapping(record.get("kinesis")).get("sequenceNumber")),
        "aws.dynamodb.sequence_number": text(mapping(record.get("dynamodb")).get("SequenceNumber")),
    }
    if "recordId" in record:
        kinesis = mapping(record.get("kinesisRecordMetadata"))
        more["aws.kinesis.sequence_number"] = text(kinesis.get("sequenceNumber"))
    facts.update((key, value) for key, value in more.items() if value is not None)
    # With an empty carrier beside the record's, no carrier becomes the parent and all become links.
    _, links = parentage((*description.carriers, {}))
    facts.update((key, value) for key, value in links.items() if key == "links" and value)
    return facts


def _event_of(record: Mapping[str, Any]) -> Any:
    if "operationType" in mapping(record.get("event")):
        return {"eventSource": "aws:docdb", "events": [record]}
    for keys, event in _EVENTS:
        if all(key in record for key in keys):
            return event(record)
    return {"Records": [record]}
