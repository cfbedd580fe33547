"""The descriptions of recorded events of DocumentDB, S3 and Transfer Family."""

from __future__ import annotations

import pytest
from recorded_events import TRACED, arn, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "documentdb": Description(
        name="claims process",
        trigger="datasource",
        metadata={
            "aws.documentdb.event_id": "0163eeb6e7000000090100000009000041",
            "aws.lambda.event_source.arn": arn("rds", "cluster:shop"),
            "aws.lambda.event_source.type": "documentdb",
            "db.namespace": "shop",
            "faas.document.collection": "claims",
            "faas.document.operation": "insert",
            "messaging.batch.message_count": 1,
        },
        source="documentdb",
        records=1,
    ),
    "documentdb_batch": Description(
        name="claims process",
        trigger="datasource",
        metadata={
            "aws.lambda.event_source.arn": arn("rds", "cluster:shop"),
            "aws.lambda.event_source.type": "documentdb",
            "db.namespace": "shop",
            "faas.document.collection": "claims",
            "messaging.batch.message_count": 2,
        },
        source="documentdb",
        records=2,
    ),
    "s3_batch": Description(
        name="acme-documents batch operation",
        trigger="datasource",
        metadata={
            "aws.lambda.event_source.arn": "arn:aws:s3:::acme-documents",
            "aws.lambda.event_source.type": "s3_batch",
            "aws.s3.batch.invocation_id": "YXNkbGZqYWRmaiBhc2RmdW9hZHNmZGpmaGFzbGtkaGZza2RmaAo",
            "aws.s3.batch.job_id": "f3cc4f60-f5f6-4a1b-9a2f-0b1c2d3e4f5a",
            "aws.s3.batch.task_id": "dGFza2lkZ29lc2hlcmUK",
            "aws.s3.bucket": "acme-documents",
            "aws.s3.key": "inbox/offer 2025.pdf",
            "faas.document.collection": "acme-documents",
            "faas.document.name": "inbox/offer 2025.pdf",
        },
        source="s3_batch",
        records=1,
    ),
    "s3_batch_schema_2": Description(
        name="acme-documents batch operation",
        trigger="datasource",
        metadata={
            "aws.lambda.event_source.type": "s3_batch",
            "aws.s3.batch.invocation_id": "YXNkbGZqYWRmaiBhc2RmdW9hZHNmZGpmaGFzbGtkaGZza2RmaAo",
            "aws.s3.batch.job_id": "f3cc4f60-f5f6-4a1b-9a2f-0b1c2d3e4f5a",
            "aws.s3.bucket": "acme-documents",
            "faas.document.collection": "acme-documents",
        },
        source="s3_batch",
        records=2,
    ),
    "s3_eventbridge": Description(
        name="Object Created process",
        trigger="pubsub",
        metadata={
            "aws.eventbridge.detail_type": "Object Created",
            "aws.eventbridge.source": "aws.s3",
            "aws.lambda.event_source.type": "eventbridge",
            "messaging.message.id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_eventbridge",
        },
        source="eventbridge",
    ),
    "s3_object_lambda": Description(
        name="redacted GetObject",
        trigger="datasource",
        metadata={
            "aws.lambda.event_source.arn": arn("s3-object-lambda", "accesspoint/redacted"),
            "aws.lambda.event_source.type": "s3_object_lambda",
            "aws.request_id": "1a5ed718-5f53-471d-b6fe-5cf62d88d02a",
            "aws.s3.key": "inbox/offer 2025.pdf",
            "aws.s3.operation": "GetObject",
            "faas.document.collection": "redacted",
            "faas.document.name": "inbox/offer 2025.pdf",
        },
        carriers=(TRACED,),
        source="s3_object_lambda",
    ),
    "transfer_workflow": Description(
        name="Transfer workflow step",
        trigger="datasource",
        metadata={
            "aws.lambda.event_source.type": "transfer_workflow",
            "aws.s3.bucket": "acme-uploads",
            "aws.s3.key": "claims/81524.pdf",
            "aws.transfer.execution_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "aws.transfer.server_id": "s-0a1b2c3d4e5f60718",
            "aws.transfer.session_id": "36688ff5d2deda8c",
            "aws.transfer.workflow_id": "w-0a1b2c3d4e5f60718",
            "faas.document.collection": "acme-uploads",
            "faas.document.name": "claims/81524.pdf",
        },
        source="transfer_workflow",
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]
