"""S3 Object Lambda: answers to requests for objects.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/olap-event-context.html
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import carrier, mapping, number, text

from .description import Description, Judgement, Trigger
from .http import judged
from .reading import ARN, part_of_arn
from .s3 import object_key

__all__ = ["S3ObjectLambda"]

_OPERATIONS = {
    "getObjectContext": "GetObject", "headObjectContext": "HeadObject", "listObjectsContext": "ListObjects",
    "listObjectsV2Context": "ListObjectsV2",
}


class S3ObjectLambda(Trigger):
    """A request to an access point. ``GetObject`` is answered by a call of S3, the others by the result."""

    source = "s3_object_lambda"
    trigger = "datasource"
    keys = ("xAmzRequestId", "configuration", "userRequest")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        arn = text(mapping(fields.get("configuration")).get("accessPointArn"))
        point = part_of_arn(arn, "accesspoint/")
        request = mapping(fields.get("userRequest"))
        operation = next((name for key, name in _OPERATIONS.items() if key in fields), None)
        # The query may have a signature.
        path = (text(request.get("url")) or "").partition("?")[0].partition("://")[2].partition("/")[2]
        facts = {
            "faas.document.collection": point,
            "faas.document.name": object_key(path),
            "aws.s3.key": object_key(path),
            "aws.s3.operation": operation,
            "aws.request_id": text(fields.get("xAmzRequestId")),
            ARN: arn,
        }
        name = " ".join(part for part in (point, operation) if part) or None
        return cls.description(facts, name=name, carriers=(carrier(request.get("headers")),))

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        return judged(number(mapping(result).get("statusCode")))
