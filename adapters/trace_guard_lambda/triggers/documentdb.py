"""DocumentDB: the change stream of a cluster.

https://docs.aws.amazon.com/lambda/latest/dg/with-documentdb.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import mapping, text

from .description import Description, Trigger
from .reading import ARN, MULTIPLE, same, sequence, single

__all__ = ["DocumentDb"]

_OPERATIONS = {"insert": "insert", "update": "edit", "replace": "edit", "delete": "delete"}


class DocumentDb(Trigger):
    """A batch of changes to a collection, a database or a cluster."""

    source = "documentdb"
    trigger = "datasource"
    keys = ("eventSource", "events")

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return super().infer(event, context) and mapping(event).get("eventSource") == "aws:docdb"

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        records = sequence(fields.get("events"))
        database = same(records, lambda record: _namespace(record, "db"))
        collection = same(records, lambda record: _namespace(record, "coll"))
        operation = same(records, lambda record: text(_change(record).get("operationType")))
        only = _change(records[0]) if len(records) == 1 else {}
        facts = {
            "faas.document.collection": single(collection),
            "faas.document.operation": _OPERATIONS.get(operation or ""),
            "db.namespace": single(database),
            "aws.documentdb.event_id": text(mapping(only.get("_id")).get("_data")),
            "messaging.batch.message_count": len(records),
            ARN: text(fields.get("eventSourceArn")),
        }
        name = MULTIPLE if database == MULTIPLE else collection
        return cls.description(facts, name=f"{name} process" if name else None, records=len(records))


def _change(record: Any) -> Mapping[Any, Any]:
    return mapping(mapping(record).get("event"))


def _namespace(record: Any, part: str) -> str | None:
    return text(mapping(_change(record).get("ns")).get(part))
