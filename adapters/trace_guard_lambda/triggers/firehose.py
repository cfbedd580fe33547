"""Firehose: transformations of the records of a delivery stream.

https://docs.aws.amazon.com/firehose/latest/dev/data-transformation.html
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import mapping, text

from .batches import judged_results, messaging_facts
from .description import Description, Judgement, Trigger
from .reading import ARN, carriers_of, data_carrier, part_of_arn, sequence

__all__ = ["Firehose"]


class Firehose(Trigger):
    """A batch of records that were put to a stream, or that it reads from Kinesis or MSK. A parent can be in the data,
    as ``traceparent`` and ``baggage`` of a JSON object."""

    source = "firehose"
    trigger = "pubsub"
    keys = ("deliveryStreamArn", "records")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        records = sequence(fields.get("records"))
        arn = text(fields.get("deliveryStreamArn"))
        stream = part_of_arn(arn, "deliverystream/")
        only = mapping(records[0]) if len(records) == 1 else {}
        facts = {
            **messaging_facts("aws_firehose", stream, len(records)),
            "messaging.message.id": text(only.get("recordId")),
            "aws.firehose.invocation_id": text(fields.get("invocationId")),
            "aws.firehose.source_arn": text(fields.get("sourceKinesisStreamArn")) or text(fields.get("sourceMSKArn")),
            ARN: arn,
        }
        carriers = carriers_of(records, lambda record: data_carrier(record.get("data")))
        return cls.description(
            facts, name=f"{stream} process" if stream else None, carriers=carriers, records=len(records)
        )

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        """A dropped record is no failed one."""
        return judged_results(description, mapping(result).get("records"), "result", ("ProcessingFailed",))
