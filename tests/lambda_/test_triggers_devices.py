"""The descriptions of recorded events of IoT Core."""

from __future__ import annotations

import pytest
from recorded_events import arn, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "iot_client": Description(
        name="IoT disconnected",
        trigger="pubsub",
        metadata={
            "aws.iot.event_type": "disconnected",
            "aws.iot.session_id": "a4666d2a7d844ae4ac5d7b38c9cb7967",
            "aws.lambda.event_source.type": "iot_client",
            "messaging.client.id": "kiosk-7",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_iot",
        },
        source="iot_client",
    ),
    "iot_provisioning": Description(
        name="kiosk provisioning",
        trigger="other",
        metadata={
            "aws.iot.certificate_id": "ce27",
            "aws.iot.template.arn": arn("iot", "provisioningtemplate/kiosk"),
            "aws.lambda.event_source.type": "iot_provisioning",
            "messaging.client.id": "kiosk-7",
        },
        source="iot_provisioning",
    ),
    "iot_thing": Description(
        name="THING_EVENT CREATED",
        trigger="pubsub",
        metadata={
            "aws.iot.event_type": "THING_EVENT",
            "aws.iot.operation": "CREATED",
            "aws.iot.thing_id": "b604f69c-aa9a-4d4a-829e-c480e958a0b5",
            "aws.iot.thing_name": "kiosk-7",
            "aws.iot.thing_type": "kiosk",
            "aws.lambda.event_source.type": "iot_registry",
            "messaging.message.id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_iot",
        },
        source="iot_registry",
    ),
    "iot_thing_group": Description(
        name="THING_GROUP_EVENT UPDATED",
        trigger="pubsub",
        metadata={
            "aws.iot.event_type": "THING_GROUP_EVENT",
            "aws.iot.operation": "UPDATED",
            "aws.iot.thing_group": "kiosks",
            "aws.iot.thing_group_id": "c1d2e3f4-0000-4111-8222-333344445555",
            "aws.lambda.event_source.type": "iot_registry",
            "messaging.message.id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_iot",
        },
        source="iot_registry",
    ),
    "iot_thing_group_hierarchy": Description(
        name="THING_GROUP_HIERARCHY_EVENT ADDED",
        trigger="pubsub",
        metadata={
            "aws.iot.event_type": "THING_GROUP_HIERARCHY_EVENT",
            "aws.iot.operation": "ADDED",
            "aws.iot.thing_group": "kiosks",
            "aws.iot.thing_group_id": "c1d2e3f4-0000-4111-8222-333344445555",
            "aws.lambda.event_source.type": "iot_registry",
            "messaging.message.id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_iot",
        },
        source="iot_registry",
    ),
    "iot_thing_group_membership": Description(
        name="THING_GROUP_MEMBERSHIP_EVENT ADDED",
        trigger="pubsub",
        metadata={
            "aws.iot.event_type": "THING_GROUP_MEMBERSHIP_EVENT",
            "aws.iot.operation": "ADDED",
            "aws.iot.thing_group_id": "c1d2e3f4-0000-4111-8222-333344445555",
            "aws.iot.thing_id": "b604f69c-aa9a-4d4a-829e-c480e958a0b5",
            "aws.lambda.event_source.type": "iot_registry",
            "messaging.message.id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_iot",
        },
        source="iot_registry",
    ),
    "iot_thing_type": Description(
        name="THING_TYPE_EVENT CREATED",
        trigger="pubsub",
        metadata={
            "aws.iot.event_type": "THING_TYPE_EVENT",
            "aws.iot.operation": "CREATED",
            "aws.iot.thing_type": "kiosk",
            "aws.lambda.event_source.type": "iot_registry",
            "messaging.message.id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_iot",
        },
        source="iot_registry",
    ),
    "iot_thing_type_association": Description(
        name="THING_TYPE_ASSOCIATION_EVENT ADDED",
        trigger="pubsub",
        metadata={
            "aws.iot.event_type": "THING_TYPE_ASSOCIATION_EVENT",
            "aws.iot.operation": "ADDED",
            "aws.iot.thing_id": "b604f69c-aa9a-4d4a-829e-c480e958a0b5",
            "aws.iot.thing_name": "kiosk-7",
            "aws.iot.thing_type": "kiosk",
            "aws.lambda.event_source.type": "iot_registry",
            "messaging.message.id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_iot",
        },
        source="iot_registry",
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]
