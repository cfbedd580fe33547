"""Transfer Family: identity providers, and custom steps of workflows."""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import mapping, text

from .description import Description, Trigger

__all__ = ["TransferAuthorizer", "TransferStep"]


class TransferAuthorizer(Trigger):
    """A user who logs in. The user's name, password and address are left out.

    https://docs.aws.amazon.com/transfer/latest/userguide/custom-lambda-idp.html
    """

    source = "transfer_authorizer"
    keys = ("serverId", "username", "protocol")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        protocol = text(fields.get("protocol"))
        facts = {
            "network.protocol.name": protocol.lower() if protocol else None,
            "aws.transfer.server_id": text(fields.get("serverId")),
        }
        return cls.description(facts, name=f"authorize {protocol}" if protocol else "authorize")


class TransferStep(Trigger):
    """A custom step of a workflow, for a file that was uploaded.

    https://docs.aws.amazon.com/transfer/latest/userguide/custom-step-details.html
    """

    source = "transfer_workflow"
    trigger = "datasource"
    keys = ("serviceMetadata", "fileLocation", "token")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        metadata, location = mapping(fields.get("serviceMetadata")), mapping(fields.get("fileLocation"))
        execution, transfer = mapping(metadata.get("executionDetails")), mapping(metadata.get("transferDetails"))
        bucket, key = text(location.get("bucket")), text(location.get("key"))
        facts = {
            "faas.document.collection": bucket or text(location.get("fileSystemId")),
            "faas.document.name": key or text(location.get("path")),
            "aws.s3.bucket": bucket,
            "aws.s3.key": key,
            "aws.transfer.execution_id": text(execution.get("executionId")),
            "aws.transfer.server_id": text(transfer.get("serverId")),
            "aws.transfer.session_id": text(transfer.get("sessionId")),
            "aws.transfer.workflow_id": text(execution.get("workflowId")),
        }
        return cls.description(facts, name="Transfer workflow step")
