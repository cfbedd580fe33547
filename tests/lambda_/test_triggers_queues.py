"""The descriptions of recorded events of SQS and SNS, and of events that arrive through them."""

from __future__ import annotations

import pytest
from recorded_events import OTHER, TRACED, arn, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "eventbridge_in_sqs": Description(
        name="opened-tickets process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sqs", "opened-tickets"),
            "aws.lambda.event_source.type": "sqs",
            "aws.sqs.approximate_receive_count": 1,
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "opened-tickets",
            "messaging.message.id": "0f3b0c4e-77a1-4d3b-9c53-6e1f0a9b8c01",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_sqs",
        },
        carriers=(TRACED,),
        source="sqs",
        records=1,
    ),
    "pipes_sqs": Description(
        name="tickets process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sqs", "tickets"),
            "aws.lambda.event_source.type": "sqs",
            "messaging.batch.message_count": 2,
            "messaging.destination.name": "tickets",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_sqs",
        },
        source="sqs",
        records=2,
    ),
    "s3_in_sns": Description(
        name="ticket-events process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sns", "ticket-events"),
            "aws.lambda.event_source.type": "sns",
            "aws.sns.topic.arn": arn("sns", "ticket-events"),
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "ticket-events",
            "messaging.message.id": "9c1e77a0-2d53-5b8e-8f41-2b9d3a60c7e5",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws.sns",
        },
        source="sns",
        records=1,
    ),
    "s3_in_sqs": Description(
        name="new-documents process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sqs", "new-documents"),
            "aws.lambda.event_source.type": "sqs",
            "aws.sqs.approximate_receive_count": 1,
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "new-documents",
            "messaging.message.id": "0f3b0c4e-77a1-4d3b-9c53-6e1f0a9b8c01",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_sqs",
        },
        source="sqs",
        records=1,
    ),
    "sns": Description(
        name="ticket-events process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sns", "ticket-events"),
            "aws.lambda.event_source.type": "sns",
            "aws.sns.topic.arn": arn("sns", "ticket-events"),
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "ticket-events",
            "messaging.message.id": "9c1e77a0-2d53-5b8e-8f41-2b9d3a60c7e5",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws.sns",
        },
        carriers=(TRACED,),
        source="sns",
        records=1,
    ),
    "sns_in_sqs": Description(
        name="tickets process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sqs", "tickets"),
            "aws.lambda.event_source.type": "sns_in_sqs",
            "aws.sns.message.id": "9c1e77a0-2d53-5b8e-8f41-2b9d3a60c7e5",
            "aws.sns.topic.arn": arn("sns", "ticket-events"),
            "aws.sqs.approximate_receive_count": 1,
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "tickets",
            "messaging.message.id": "0f3b0c4e-77a1-4d3b-9c53-6e1f0a9b8c01",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_sqs",
        },
        carriers=(TRACED,),
        source="sns_in_sqs",
        records=1,
    ),
    "sns_in_sqs_raw_delivery": Description(
        name="tickets process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sqs", "tickets"),
            "aws.lambda.event_source.type": "sqs",
            "aws.sqs.approximate_receive_count": 1,
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "tickets",
            "messaging.message.id": "0f3b0c4e-77a1-4d3b-9c53-6e1f0a9b8c01",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_sqs",
        },
        carriers=(TRACED,),
        source="sqs",
        records=1,
    ),
    "sqs": Description(
        name="tickets process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sqs", "tickets"),
            "aws.lambda.event_source.type": "sqs",
            "aws.sqs.approximate_receive_count": 3,
            "messaging.batch.message_count": 1,
            "messaging.destination.name": "tickets",
            "messaging.message.id": "0f3b0c4e-77a1-4d3b-9c53-6e1f0a9b8c01",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_sqs",
        },
        carriers=(TRACED,),
        source="sqs",
        records=1,
    ),
    "sqs_batch": Description(
        name="tickets process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sqs", "tickets"),
            "aws.lambda.event_source.type": "sqs",
            "messaging.batch.message_count": 3,
            "messaging.destination.name": "tickets",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_sqs",
        },
        carriers=(TRACED, {**TRACED, "traceparent": OTHER}, {},),
        source="sqs",
        records=3,
    ),
    "sqs_fifo": Description(
        name="tickets.fifo process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.arn": arn("sqs", "tickets.fifo"),
            "aws.lambda.event_source.type": "sqs",
            "messaging.batch.message_count": 2,
            "messaging.destination.name": "tickets.fifo",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_sqs",
        },
        carriers=(TRACED, TRACED,),
        source="sqs",
        records=2,
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]


def test_a_batch_of_several_queues_has_no_destination() -> None:
    """Messages of several queues have several sources and no single destination."""
    event = {"Records": recorded("sqs")["Records"] + recorded("sqs_fifo")["Records"]}
    description = describe(event)
    assert description.name == "multiple_sources process"
    assert description.metadata == {
        "aws.lambda.event_source.type": "sqs",
        "messaging.batch.message_count": 3,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.system": "aws_sqs",
    }
