"""AWS IoT Core: events of the registry and of clients, authorizers, and provisioning hooks."""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import mapping, text

from .batches import messaging_facts
from .description import Description, Trigger

__all__ = ["IotAuthorizer", "IotClient", "IotProvisioning", "IotRegistry"]

_REGISTRY = {
    "THING_EVENT", "THING_TYPE_EVENT", "THING_TYPE_ASSOCIATION_EVENT", "THING_GROUP_EVENT",
    "THING_GROUP_MEMBERSHIP_EVENT", "THING_GROUP_HIERARCHY_EVENT",
}
_CLIENT = {"connected", "disconnected", "connect_failed", "subscribed", "unsubscribed"}


class IotRegistry(Trigger):
    """A change of a thing, a type or a group, sent by a rule.

    https://docs.aws.amazon.com/iot/latest/developerguide/registry-events.html
    """

    source = "iot_registry"
    trigger = "pubsub"
    keys = ("eventId", "eventType", "operation")

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return super().infer(event, context) and text(mapping(event).get("eventType")) in _REGISTRY

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        kind, operation = text(fields.get("eventType")), text(fields.get("operation"))
        facts = {
            **messaging_facts("aws_iot", None, None),
            "messaging.message.id": text(fields.get("eventId")),
            "aws.iot.event_type": kind,
            "aws.iot.operation": operation,
            "aws.iot.thing_name": text(fields.get("thingName")),
            "aws.iot.thing_id": text(fields.get("thingId")),
            "aws.iot.thing_type": text(fields.get("thingTypeName")),
            "aws.iot.thing_group": text(fields.get("thingGroupName")),
            "aws.iot.thing_group_id": text(fields.get("thingGroupId")) or text(fields.get("groupId")),
        }
        return cls.description(facts, name=" ".join(part for part in (kind, operation) if part))


class IotClient(Trigger):
    """A client that connects, disconnects, subscribes or unsubscribes, sent by a rule.

    https://docs.aws.amazon.com/iot/latest/developerguide/life-cycle-events.html
    """

    source = "iot_client"
    trigger = "pubsub"
    keys = ("clientId", "eventType", "timestamp")

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return super().infer(event, context) and text(mapping(event).get("eventType")) in _CLIENT

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        kind = text(fields.get("eventType"))
        facts = {
            **messaging_facts("aws_iot", None, None),
            "messaging.client.id": text(fields.get("clientId")),
            "aws.iot.event_type": kind,
            "aws.iot.session_id": text(fields.get("sessionIdentifier")),
        }
        return cls.description(facts, name=f"IoT {kind}")


class IotAuthorizer(Trigger):
    """A custom authorizer, for a connection by MQTT or HTTP.

    https://docs.aws.amazon.com/iot/latest/developerguide/custom-auth-lambda.html
    """

    source = "iot_authorizer"
    keys = ("protocolData", "connectionMetadata")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        client = mapping(mapping(fields.get("protocolData")).get("mqtt")).get("clientId")
        facts = {
            "messaging.client.id": text(client),
            "aws.iot.connection_id": text(mapping(fields.get("connectionMetadata")).get("id")),
        }
        return cls.description(facts, name="authorize IoT")


class IotProvisioning(Trigger):
    """A hook before a device is provisioned.

    https://docs.aws.amazon.com/iot/latest/developerguide/pre-provisioning-hook.html
    """

    source = "iot_provisioning"
    keys = ("certificateId", "templateArn", "parameters")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        template = text(fields.get("templateArn"))
        facts = {
            "messaging.client.id": text(fields.get("clientId")),
            "aws.iot.certificate_id": text(fields.get("certificateId")),
            "aws.iot.template.arn": template,
        }
        name = template.rpartition("/")[2] if template else "IoT"
        return cls.description(facts, name=f"{name} provisioning")
