"""The metadata of one record of a batch, read as if it were the only record of an event."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import mapping, number, text

from .triggers import describe, parentage

__all__ = ["facts_of_record", "plain_record"]


def plain_record(record: Any) -> Mapping[str, Any]:
    """A record as a mapping with the names of Lambda's event. Powertools' data classes are mappings, and a pydantic
    model is dumped. Empty for anything else."""
    dump = None if isinstance(record, Mapping) else getattr(record, "model_dump", None)
    return mapping(dump(by_alias=True) if callable(dump) and not isinstance(record, type) else record)


def facts_of_record(record: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata of a record's span: source, ids and attempt, with the names of :mod:`.triggers`, and never the
    record's content. ``links`` refers to the trace that the record comes from; the root of the batch stays the
    parent."""
    # Lambda groups Kafka records by partition, and a record does not name its source.
    kafka = "topic" in record and "offset" in record
    event = {"eventSource": "aws:kafka", "records": {"": [record]}} if kafka else {"Records": [record]}
    description = describe(event)
    facts = {key: value for key, value in description.metadata.items() if key != "messaging.batch.message_count"}
    attributes = mapping(record.get("attributes"))
    more = {
        "attempt": number(attributes.get("ApproximateReceiveCount")),
        "aws.sqs.message_group_id": text(attributes.get("MessageGroupId")),
        # The result of a stream's batch identifies failed records by these.
        "aws.kinesis.sequence_number": text(mapping(record.get("kinesis")).get("sequenceNumber")),
        "aws.dynamodb.sequence_number": text(mapping(record.get("dynamodb")).get("SequenceNumber")),
    }
    facts.update((key, value) for key, value in more.items() if value is not None)
    # With an empty carrier beside the record's, no carrier becomes the parent and all become links.
    _, links = parentage((*description.carriers, {}))
    facts.update((key, value) for key, value in links.items() if key == "links" and value)
    return facts
