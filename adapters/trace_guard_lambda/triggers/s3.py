"""S3: notifications of a bucket."""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import mapping, text

from .description import Description, Trigger
from .reading import ARN, MULTIPLE, first_record, records_of, same, single

__all__ = ["S3", "object_key"]

_OPERATIONS = (
    ("ObjectCreated", "insert"), ("ObjectRemoved", "delete"), ("LifecycleExpiration", "delete"),
    ("ObjectTagging", "edit"), ("ObjectAcl", "edit"),
)


class S3(Trigger):
    """A notification about an object. Notifications through SQS, SNS or EventBridge belong to those triggers.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/notification-content-structure.html
    """

    source = "s3"
    trigger = "datasource"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return first_record(event).get("eventSource") == "aws:s3"

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        records = records_of(event)
        bucket = same(records, lambda record: text(_in(record, "bucket").get("name")))
        arn = same(records, lambda record: text(_in(record, "bucket").get("arn")))
        event_name = same(records, lambda record: text(record.get("eventName")))
        known = single(bucket)
        only = mapping(records[0]) if len(records) == 1 else {}
        key = object_key(_in(only, "object").get("key"))
        answer = mapping(only.get("responseElements"))
        facts = {
            "faas.document.collection": known,
            "faas.document.name": key,
            "faas.document.operation": _operation(event_name or ""),
            "faas.document.time": text(only.get("eventTime")),
            "aws.s3.bucket": known,
            "aws.s3.key": key,
            "aws.s3.event_name": single(event_name),
            "aws.request_id": text(answer.get("x-amz-request-id")),
            "aws.extended_request_id": text(answer.get("x-amz-id-2")),
            ARN: single(arn),
        }
        name = f"{bucket} {event_name}" if bucket and event_name and event_name != MULTIPLE else None
        return cls.description(facts, name=name, records=len(records))


def _in(record: Any, part: str) -> Any:
    return mapping(mapping(mapping(record).get("s3")).get(part))


def object_key(value: Any) -> str | None:
    """A key as it was given to S3. Events have it form-encoded."""
    key = text(value)
    if key is None or ("%" not in key and "+" not in key):
        return key
    from urllib.parse import unquote_plus

    return unquote_plus(key)


def _operation(event_name: str) -> str | None:
    return next((operation for kind, operation in _OPERATIONS if event_name.startswith(kind)), None)
