"""AppSync: resolvers, single and in batches, and the Events API."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import carrier, mapping, text

from .batches import messaging_facts
from .description import Carrier, Description, Trigger
from .reading import carriers_of, first_record, records_of, sequence

__all__ = ["AppSync", "AppSyncBatch", "AppSyncEvents"]


class AppSync(Trigger):
    """A resolver of a GraphQL field, also in Amplify's form.

    https://docs.aws.amazon.com/appsync/latest/devguide/resolver-context-reference.html
    """

    source = "appsync"
    trigger = "http"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        fields = mapping(event)
        info = mapping(fields.get("info"))
        return ("fieldName" in info and ("parentTypeName" in info or "arguments" in fields)) or (
            "fieldName" in fields and "typeName" in fields
        )

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        name, facts = _field(mapping(event))
        return cls.description(facts, name=name, carriers=(_carrier(mapping(event)),))


class AppSyncBatch(Trigger):
    """A batch resolver: a list of contexts of one request, for the same field of several parents.

    https://docs.aws.amazon.com/appsync/latest/devguide/tutorial-lambda-resolvers.html
    """

    source = "appsync_batch"
    trigger = "http"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return isinstance(event, list) and AppSync.infer(first_record(event), context)

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        records = records_of(event)
        name, facts = _field(first_record(event))
        facts["aws.appsync.batch_size"] = len(records)
        return cls.description(facts, name=name, carriers=carriers_of(records, _carrier), records=len(records))


class AppSyncEvents(Trigger):
    """A publish to a channel or a subscription to it. The span is named after the namespace, because the path of a
    channel may contain ids.

    https://docs.aws.amazon.com/appsync/latest/eventapi/runtime-reference-context-event-api.html
    """

    source = "appsync_events"
    trigger = "pubsub"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        info = mapping(mapping(event).get("info"))
        return "operation" in info and ("channel" in info or "channelNamespace" in info)

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        info = mapping(fields.get("info"))
        namespace = text(mapping(info.get("channelNamespace")).get("name"))
        operation = (text(info.get("operation")) or "").lower()
        published = sequence(fields.get("events"))
        facts = {
            **messaging_facts("aws_appsync", text(mapping(info.get("channel")).get("path")), len(published) or None),
            "messaging.destination.template": f"/{namespace}/*" if namespace else None,
            "aws.appsync.operation": operation or None,
        }
        name = f"{namespace} {operation}" if namespace and operation else None
        return cls.description(facts, name=name, carriers=(_carrier(fields),), records=len(published))


def _field(fields: Mapping[Any, Any]) -> tuple[str | None, dict[str, Any]]:
    info = mapping(fields.get("info"))
    parent = text(info.get("parentTypeName")) or text(fields.get("typeName"))
    field = text(info.get("fieldName")) or text(fields.get("fieldName"))
    facts: dict[str, Any] = {"aws.appsync.parent_type": parent, "aws.appsync.field": field}
    return ".".join(part for part in (parent, field) if part) or None, facts


def _carrier(fields: Mapping[Any, Any]) -> Carrier:
    return carrier(mapping(fields.get("request")).get("headers"))
