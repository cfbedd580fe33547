"""The descriptions of recorded events of Amazon MQ, Firehose, SES, and Kafka with schemas."""

from __future__ import annotations

import pytest
from recorded_events import TRACED, TRACEPARENT, arn, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "activemq": Description(
        name="refunds process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("mq", "broker:refunds:b-6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b"),
            "aws.lambda.event_source.type": "activemq",
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "refunds",
            "messaging.message.conversation_id": "claim-81524",
            "messaging.message.id": "ID:b-1.mq.eu-central-1.amazonaws.com-35001-1760608682114-3:1:1:1:1",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "activemq",
        },
        carriers=(TRACED,),
        source="activemq",
        records=1,
    ),
    "rabbitmq": Description(
        name="refunds process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("mq", "broker:refunds:b-6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b"),
            "aws.lambda.event_source.type": "rabbitmq",
            "aws.mq.virtual_host": "/",
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "refunds",
            "messaging.message.conversation_id": "claim-81524",
            "messaging.message.id": "refund-1",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "rabbitmq",
        },
        carriers=({"traceparent": TRACEPARENT},),
        source="rabbitmq",
        records=1,
    ),
    "rabbitmq_batch": Description(
        name="multiple_sources process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("mq", "broker:refunds:b-6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b"),
            "aws.lambda.event_source.type": "rabbitmq",
            "messaging.batch.message_count": 3,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "rabbitmq",
        },
        carriers=({"traceparent": TRACEPARENT},) * 3,
        source="rabbitmq",
        records=3,
    ),
    "firehose_put": Description(
        name="transcripts process",
        trigger="pubsub",
        metadata={
            "aws.firehose.invocation_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "aws.lambda.event_source.arn": arn("firehose", "deliverystream/transcripts"),
            "aws.lambda.event_source.type": "firehose",
            "messaging.batch.message_count": 2,
            "messaging.destination.name": "transcripts",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_firehose",
        },
        carriers=({"traceparent": TRACEPARENT}, {}),
        source="firehose",
        records=2,
    ),
    "firehose_kinesis": Description(
        name="transcripts process",
        trigger="pubsub",
        metadata={
            "aws.firehose.invocation_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "aws.firehose.source_arn": arn("kinesis", "stream/transcripts-raw"),
            "aws.lambda.event_source.arn": arn("firehose", "deliverystream/transcripts"),
            "aws.lambda.event_source.type": "firehose",
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "transcripts",
            "messaging.message.id": "4967300000001",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_firehose",
        },
        source="firehose",
        records=1,
    ),
    "firehose_sqs": Description(
        name="transcripts process",
        trigger="pubsub",
        metadata={
            "aws.firehose.invocation_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "aws.lambda.event_source.arn": arn("firehose", "deliverystream/transcripts"),
            "aws.lambda.event_source.type": "firehose",
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "transcripts",
            "messaging.message.id": "4967400000001",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_firehose",
        },
        source="firehose",
        records=1,
    ),
    "ses": Description(
        name="SES process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.type": "ses",
            "aws.ses.invocation_type": "Event",
            "messaging.batch.message_count": 1,
            "messaging.message.id": "o3vrnil0e2ic28trm7dfhrc2v0clambda4nbp0g1",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_ses",
        },
        source="ses",
        records=1,
    ),
    "msk_schema": Description(
        name="orders process",
        trigger="pubsub",
        metadata={
            "aws.kafka.value_schema.format": "AVRO",
            "aws.kafka.value_schema.id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "aws.lambda.event_source.arn": arn("kafka", "cluster/orders/6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b"),
            "aws.lambda.event_source.type": "kafka",
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "orders",
            "messaging.destination.partition.id": "2",
            "messaging.kafka.offset": 42,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "kafka",
        },
        carriers=(TRACED,),
        source="kafka",
        records=1,
    ),
    "self_managed_kafka_schema": Description(
        name="orders process",
        trigger="pubsub",
        metadata={
            "aws.kafka.value_schema.format": "PROTOBUF",
            "aws.kafka.value_schema.id": "12",
            "aws.lambda.event_source.type": "kafka",
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "orders",
            "messaging.destination.partition.id": "2",
            "messaging.kafka.offset": 42,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "kafka",
        },
        carriers=(TRACED,),
        source="kafka",
        records=1,
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]
