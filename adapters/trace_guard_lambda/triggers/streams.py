"""Streams: Kinesis, DynamoDB and Kafka."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain, islice
from typing import Any

from trace_guard.invocation.reading import LOOKED_AT, carrier, mapping, number, text

from .batches import Batch, messaging_facts
from .description import Carrier, Description, Trigger
from .reading import (
    ARN,
    carriers_of,
    data_carrier,
    decoded,
    first_record,
    part_of_arn,
    records_of,
    same,
    sequence,
    single,
)

__all__ = ["DynamoDb", "Kafka", "Kinesis"]

_OPERATIONS = {"INSERT": "insert", "MODIFY": "edit", "REMOVE": "delete"}
_CLUSTERS = frozenset({"aws:kafka", "aws:SelfManagedKafka", "SelfManagedKafka"})


class Kinesis(Batch):
    """A batch from one shard. Records have no headers, so a parent can only be in the data, as ``traceparent`` and
    ``baggage`` of a JSON object.

    https://docs.aws.amazon.com/lambda/latest/dg/with-kinesis.html
    """

    source = "kinesis"
    trigger = "pubsub"
    event_source = "aws:kinesis"

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        records = records_of(event)
        arn = cls.arn_of(records)
        stream = part_of_arn(arn, "stream/")
        identifier = text(first_record(event).get("eventID")) or ""  # shardId-000000000006:4959...
        facts = {
            **messaging_facts("aws_kinesis", stream, len(records)),
            "messaging.destination.partition.id": identifier.partition(":")[0] or None,
            "messaging.message.id": identifier or None if len(records) == 1 else None,
            "aws.kinesis.stream_name": single(stream),
            ARN: single(arn),
        }
        return cls.description(
            facts, name=f"{stream} process" if stream else None, carriers=carriers_of(records, _data_carrier),
            records=len(records),
        )


class DynamoDb(Batch):
    """A batch of changes to a table.

    https://docs.aws.amazon.com/lambda/latest/dg/with-ddb.html
    """

    source = "dynamodb"
    trigger = "datasource"
    event_source = "aws:dynamodb"

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        records = records_of(event)
        arn = cls.arn_of(records)
        table = part_of_arn(arn, "table/")
        known = single(table)
        operation = same(records, lambda record: text(record.get("eventName")))
        facts = {
            "faas.document.collection": known,
            "faas.document.operation": _OPERATIONS.get(operation or ""),
            "aws.dynamodb.table_names": [known] if known else None,
            "aws.dynamodb.event_id": text(first_record(event).get("eventID")) if len(records) == 1 else None,
            "messaging.batch.message_count": len(records),
            ARN: single(arn),
        }
        return cls.description(facts, name=f"{table} process" if table else None, records=len(records))


class Kafka(Trigger):
    """A batch from an MSK cluster or a self-managed one.

    https://docs.aws.amazon.com/lambda/latest/dg/with-msk.html and
    https://opentelemetry.io/docs/specs/semconv/messaging/kafka/
    """

    source = "kafka"
    trigger = "pubsub"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        kind = mapping(event).get("eventSource")
        return isinstance(kind, str) and kind in _CLUSTERS

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        partitions = [sequence(values) for values in mapping(fields.get("records")).values()]
        count = sum(map(len, partitions))
        records: Sequence[Any] = list(islice(chain.from_iterable(partitions), LOOKED_AT))
        topic = same(records, lambda record: text(record.get("topic")))
        only = mapping(records[0]) if count == 1 else {}
        partition = number(only.get("partition"))
        facts = {
            **messaging_facts("kafka", topic, count),
            "messaging.destination.partition.id": None if partition is None else str(partition),
            "messaging.kafka.offset": number(only.get("offset")),
            ARN: text(fields.get("eventSourceArn")),
            **_schema(only),
        }
        return cls.description(
            facts, name=f"{topic} process" if topic else None, carriers=carriers_of(records, _header_carrier),
            records=count,
        )


def _data_carrier(record: Mapping[Any, Any]) -> Carrier:
    return data_carrier(mapping(record.get("kinesis")).get("data"))


def _schema(record: Mapping[Any, Any]) -> dict[str, Any]:
    """The schema of a record's value, from a cluster with a schema registry:
    https://docs.aws.amazon.com/lambda/latest/dg/services-consume-kafka-events.html"""
    schema = mapping(record.get("valueSchemaMetadata"))
    return {
        "aws.kafka.value_schema.format": text(schema.get("dataFormat")),
        "aws.kafka.value_schema.id": text(schema.get("schemaId")),
    }


def _header_carrier(record: Mapping[Any, Any]) -> Carrier:
    """The trace context in the headers. A header is an object with one key, whose value is a list of signed bytes."""
    headers = {}
    for header in sequence(record.get("headers"))[:LOOKED_AT]:
        for name, value in mapping(header).items():
            if isinstance(name, str) and name.lower() in ("traceparent", "tracestate", "baggage"):
                headers[name] = decoded(value)
    return carrier(headers)
