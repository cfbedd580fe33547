"""CloudFormation: custom resources.

https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/crpg-ref-requests.html
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import mapping, text

from .description import Description, Trigger

__all__ = ["CustomResource"]


class CustomResource(Trigger):
    """A request to create, update or delete a resource. The answer goes to a signed URL, which is left out."""

    source = "cloudformation"
    keys = ("RequestType", "StackId", "LogicalResourceId")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        kind, request = text(fields.get("ResourceType")), text(fields.get("RequestType"))
        facts = {
            "aws.cloudformation.request_type": request,
            "aws.cloudformation.resource_type": kind,
            "aws.cloudformation.logical_resource_id": text(fields.get("LogicalResourceId")),
            "aws.cloudformation.physical_resource_id": text(fields.get("PhysicalResourceId")),
            "aws.cloudformation.stack.arn": text(fields.get("StackId")),
            "aws.request_id": text(fields.get("RequestId")),
        }
        return cls.description(facts, name=" ".join(part for part in (kind, request) if part) or None)
