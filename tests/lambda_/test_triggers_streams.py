"""The descriptions of recorded events of buses, schedules and streams."""

from __future__ import annotations

import pytest
from recorded_events import TRACED, arn, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "dynamodb": Description(
        name="Tickets process",
        trigger="datasource",
        metadata={
            "aws.dynamodb.event_id": "c81e728d9d4c2f636f067f89cc148621",
            "aws.dynamodb.table_names": ["Tickets"],
            "aws.lambda.event_source.arn": arn("dynamodb", "table/Tickets/stream/2025-10-01T00:00:00.000"),
            "aws.lambda.event_source.type": "dynamodb",
            "faas.document.collection": "Tickets",
            "faas.document.operation": "edit",
            "messaging.batch.message_count": 1,
        },
        source="dynamodb",
        records=1,
    ),
    "dynamodb_batch": Description(
        name="Tickets process",
        trigger="datasource",
        metadata={
            "aws.dynamodb.table_names": ["Tickets"],
            "aws.lambda.event_source.arn": arn("dynamodb", "table/Tickets/stream/2025-10-01T00:00:00.000"),
            "aws.lambda.event_source.type": "dynamodb",
            "faas.document.collection": "Tickets",
            "messaging.batch.message_count": 3,
        },
        source="dynamodb",
        records=3,
    ),
    "eventbridge": Description(
        name="TicketOpened process",
        trigger="pubsub",
        metadata={
            "aws.eventbridge.detail_type": "TicketOpened",
            "aws.eventbridge.source": "acme.support",
            "aws.lambda.event_source.type": "eventbridge",
            "messaging.message.id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_eventbridge",
        },
        carriers=(TRACED,),
        source="eventbridge",
    ),
    "eventbridge_aws_service": Description(
        name="Object Created process",
        trigger="pubsub",
        metadata={
            "aws.eventbridge.detail_type": "Object Created",
            "aws.eventbridge.replay_name": "after-the-outage",
            "aws.eventbridge.source": "aws.s3",
            "aws.lambda.event_source.type": "eventbridge",
            "messaging.message.id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_eventbridge",
        },
        source="eventbridge",
    ),
    "kinesis": Description(
        name="clicks process",
        trigger="pubsub",
        metadata={
            "aws.kinesis.stream_name": "clicks",
            "aws.lambda.event_source.arn": arn("kinesis", "stream/clicks"),
            "aws.lambda.event_source.type": "kinesis",
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "clicks",
            "messaging.destination.partition.id": "shardId-000000000007",
            "messaging.message.id": "shardId-000000000007:49603100000000000000000000000000000000000000000000000001",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_kinesis",
        },
        carriers=(TRACED,),
        source="kinesis",
        records=1,
    ),
    "kinesis_consumer": Description(
        name="clicks process",
        trigger="pubsub",
        metadata={
            "aws.kinesis.stream_name": "clicks",
            "aws.lambda.event_source.arn": arn("kinesis", "stream/clicks/consumer/enricher:1760000000"),
            "aws.lambda.event_source.type": "kinesis",
            "messaging.batch.message_count": 2,
            "messaging.destination.name": "clicks",
            "messaging.destination.partition.id": "shardId-000000000007",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_kinesis",
        },
        source="kinesis",
        records=2,
    ),
    "msk": Description(
        name="orders process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("kafka", "cluster/orders/0b6a1f9c-2d3e-4f50-8a9b-7c6d5e4f3a2b-4"),
            "aws.lambda.event_source.type": "kafka",
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "orders",
            "messaging.destination.partition.id": "0",
            "messaging.kafka.offset": 1500,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "kafka",
        },
        carriers=(TRACED,),
        source="kafka",
        records=1,
    ),
    "msk_batch": Description(
        name="orders process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("kafka", "cluster/orders/0b6a1f9c-2d3e-4f50-8a9b-7c6d5e4f3a2b-4"),
            "aws.lambda.event_source.type": "kafka",
            "messaging.batch.message_count": 3,
            "messaging.destination.name": "orders",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "kafka",
        },
        source="kafka",
        records=3,
    ),
    "schedule_rule": Description(
        trigger="timer",
        metadata={
            "aws.eventbridge.event_id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
            "aws.lambda.event_source.arn": arn("events", "rule/nightly-digest"),
            "aws.lambda.event_source.type": "schedule",
            "faas.time": "2025-10-16T09:58:02Z",
        },
        source="schedule",
    ),
    "schedule_scheduler": Description(
        trigger="timer",
        metadata={
            "aws.eventbridge.event_id": "53dc4d37-cffa-4f76-80c9-8b7d4a4d2eaa",
            "aws.lambda.event_source.arn": arn("scheduler", "schedule/default/nightly-digest"),
            "aws.lambda.event_source.type": "schedule",
            "faas.time": "2025-10-16T09:58:02Z",
        },
        source="schedule",
    ),
    "self_managed_kafka": Description(
        name="orders process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.type": "kafka",
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "orders",
            "messaging.destination.partition.id": "0",
            "messaging.kafka.offset": 1500,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "kafka",
        },
        source="kafka",
        records=1,
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]


def test_the_bytes_of_headers_may_have_signs() -> None:
    """Header bytes beyond ASCII, which Java writes as negative numbers, are read. A header without bytes is ignored."""
    event = recorded("msk")
    (record,) = event["records"]["orders-0"]
    signed = [byte - 256 if byte > 127 else byte for byte in "tenant=müller".encode()]
    record["headers"] = [record["headers"][0], {"Baggage": signed}, {"tracestate": ["a"]}]
    assert describe(event).carriers == ({"traceparent": TRACED["traceparent"], "baggage": "tenant=müller"},)
