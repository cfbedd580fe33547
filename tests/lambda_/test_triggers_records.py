"""The metadata of single records of recorded batches."""

from __future__ import annotations

from typing import Any

import pytest
from recorded_events import CONTAINER, TRACEPARENT, arn, recorded

from trace_guard_lambda.record_facts import facts_of_record

EXPECTED = {
    "activemq": {
        "aws.lambda.event_source.type": "activemq",
        "links": [{"traceparent": TRACEPARENT, "braintrust.parent": CONTAINER}],
        "messaging.destination.name": "refunds",
        "messaging.message.conversation_id": "claim-81524",
        "messaging.message.id": "ID:b-1.mq.eu-central-1.amazonaws.com-35001-1760608682114-3:1:1:1:1",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.system": "activemq",
    },
    "rabbitmq": {
        "aws.lambda.event_source.type": "rabbitmq",
        "links": [{"traceparent": TRACEPARENT}],
        "messaging.message.conversation_id": "claim-81524",
        "messaging.message.id": "refund-1",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.system": "rabbitmq",
    },
    "firehose_put": {
        "aws.lambda.event_source.type": "firehose",
        "links": [{"traceparent": TRACEPARENT}],
        "messaging.message.id": "4967100000001",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.system": "aws_firehose",
    },
    "firehose_kinesis": {
        "aws.kinesis.sequence_number": "49590338271490256608559692538361571095921575989136588898",
        "aws.lambda.event_source.type": "firehose",
        "messaging.message.id": "4967300000001",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.system": "aws_firehose",
    },
    "documentdb_batch": {
        "aws.documentdb.event_id": "0163eeb6e7000000090100000009000041",
        "aws.lambda.event_source.type": "documentdb",
        "db.namespace": "shop",
        "faas.document.collection": "claims",
        "faas.document.operation": "insert",
    },
    "s3_batch": {
        "aws.lambda.event_source.arn": "arn:aws:s3:::acme-documents",
        "aws.lambda.event_source.type": "s3_batch",
        "aws.s3.batch.task_id": "dGFza2lkZ29lc2hlcmUK",
        "aws.s3.bucket": "acme-documents",
        "aws.s3.key": "inbox/offer 2025.pdf",
        "faas.document.collection": "acme-documents",
        "faas.document.name": "inbox/offer 2025.pdf",
    },
    "s3_batch_schema_2": {
        "aws.lambda.event_source.type": "s3_batch",
        "aws.s3.batch.task_id": "dGFza2lk1",
        "aws.s3.bucket": "acme-documents",
        "aws.s3.key": "inbox/1.pdf",
        "faas.document.collection": "acme-documents",
        "faas.document.name": "inbox/1.pdf",
    },
    "ses": {
        "aws.lambda.event_source.type": "ses",
        "aws.ses.invocation_type": "Event",
        "messaging.message.id": "o3vrnil0e2ic28trm7dfhrc2v0clambda4nbp0g1",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.system": "aws_ses",
    },
    "codecommit": {
        "aws.codecommit.event_name": "ReferenceChanges",
        "aws.codecommit.trigger_name": "evaluate",
        "aws.lambda.event_source.arn": arn("codecommit", "prompts"),
        "aws.lambda.event_source.type": "codecommit",
        "faas.document.collection": "prompts",
        "vcs.ref.head.revision": "5c4ef1049f1d27deadbeeff313e0730018be182b",
    },
    "msk_schema": {
        "aws.kafka.value_schema.format": "AVRO",
        "aws.kafka.value_schema.id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
        "aws.lambda.event_source.type": "kafka",
        "links": [{"traceparent": TRACEPARENT, "braintrust.parent": CONTAINER}],
        "messaging.destination.name": "orders",
        "messaging.destination.partition.id": "2",
        "messaging.kafka.offset": 42,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.system": "kafka",
    },
}

BATCHES = ("Records", "records", "messages", "rmqMessagesByQueue", "events", "tasks")


def first_record(event: dict[str, Any]) -> Any:
    """The first record of a batch, which is a list, or lists by queue or partition."""
    (batch,) = [event[key] for key in BATCHES if key in event]
    return batch[0] if isinstance(batch, list) else next(iter(batch.values()))[0]


@pytest.mark.parametrize("event", EXPECTED)
def test_a_record_is_described(event: str) -> None:
    """Each record has exactly its source and ids, and a link to the trace that it comes from."""
    assert facts_of_record(first_record(recorded(event))) == EXPECTED[event]
