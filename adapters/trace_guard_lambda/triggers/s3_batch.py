"""S3 Batch Operations: the tasks of a job.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/batch-ops-invoke-lambda.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import mapping, text

from .batches import judged_results
from .description import Description, Judgement, Trigger
from .reading import ARN, same, sequence, single
from .s3 import object_key

__all__ = ["S3Batch"]


class S3Batch(Trigger):
    """Tasks for objects of a bucket, which the first schema names by its ARN and the second by its name."""

    source = "s3_batch"
    trigger = "datasource"
    keys = ("invocationSchemaVersion", "job", "tasks")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        records = sequence(fields.get("tasks"))
        bucket = same(records, _bucket)
        only = mapping(records[0]) if len(records) == 1 else {}
        key = object_key(only.get("s3Key"))
        facts = {
            "faas.document.collection": single(bucket),
            "faas.document.name": key,
            "aws.s3.bucket": single(bucket),
            "aws.s3.key": key,
            "aws.s3.batch.invocation_id": text(fields.get("invocationId")),
            "aws.s3.batch.job_id": text(mapping(fields.get("job")).get("id")),
            "aws.s3.batch.task_id": text(only.get("taskId")),
            ARN: single(same(records, lambda record: text(record.get("s3BucketArn")))),
        }
        return cls.description(facts, name=f"{bucket} batch operation" if bucket else None, records=len(records))

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        failures = ("TemporaryFailure", "PermanentFailure")
        return judged_results(description, mapping(result).get("results"), "resultCode", failures)


def _bucket(task: Mapping[Any, Any]) -> str | None:
    return text(task.get("s3Bucket")) or (text(task.get("s3BucketArn")) or "").rpartition(":")[2] or None
