"""Batches whose results may name the failed records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from trace_guard.invocation.reading import mapping, text

from .description import Description, Judgement, Trigger
from .reading import first_record, same, single

__all__ = ["Batch", "judged_batch", "judged_results", "messaging_facts"]


class Batch(Trigger):
    """A batch of an event source mapping: SQS, Kinesis and DynamoDB take ``batchItemFailures`` as the result.

    https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html#services-sqs-batchfailurereporting

    Attributes:
        event_source: the ``eventSource`` of its records.
    """

    event_source: ClassVar[str]

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return first_record(event).get("eventSource") == cls.event_source

    @staticmethod
    def arn_of(records: Sequence[Any]) -> str | None:
        """The source of all records; ``multiple_sources`` if they have several."""
        return same(records, lambda record: text(record.get("eventSourceARN")))

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        """Count the failed records. Only a batch without a successful record is an error. An invalid identifier makes
        Lambda retry the whole batch, as the page above explains."""
        failures = mapping(result).get("batchItemFailures")
        total = description.records
        if not isinstance(failures, (list, tuple)) or not total:
            return Judgement()
        identifiers = {_identifier(failure) for failure in failures}
        failed = total if None in identifiers else min(len(identifiers), total)
        unusable = ": batchItemFailures has an item without a usable itemIdentifier" if None in identifiers else ""
        return judged_batch(failed, total, unusable)


def judged_batch(failed: int, total: int, why: str = "") -> Judgement:
    """The judgement of a batch. Only a batch without a successful record is an error, to which ``why`` is appended."""
    metadata = {"batch": {"failed": failed, "count": total}}
    if failed < total:
        return Judgement(None, metadata)
    error = f"all {total} records of the batch failed" if total > 1 else "the only record of the batch failed"
    return Judgement(error + why, metadata)


def judged_results(description: Description, results: Any, key: str, failures: tuple[str, ...]) -> Judgement:
    """The judgement of a result that lists the outcome of each record below ``key``."""
    total = description.records
    if not isinstance(results, (list, tuple)) or not total:
        return Judgement()
    failed = sum(mapping(result).get(key) in failures for result in results)
    return judged_batch(min(failed, total), total)


def _identifier(item: Any) -> str | None:
    value = mapping(item).get("itemIdentifier")
    return value if isinstance(value, str) and value else None


def messaging_facts(system: str, destination: str | None, count: int | None) -> dict[str, Any]:
    """The attributes of a consumer's span in OpenTelemetry."""
    return {
        "messaging.system": system,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": single(destination),
        "messaging.batch.message_count": count,
    }
