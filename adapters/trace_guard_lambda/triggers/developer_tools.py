"""AWS's developer tools: CodePipeline, CodeDeploy and CodeCommit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import mapping, text

from .batches import Batch
from .description import Description, Trigger
from .reading import ARN, MULTIPLE, records_of, same, sequence, single

__all__ = ["CodeCommit", "CodeDeploy", "CodePipeline"]

_JOB = "CodePipeline.job"


class CodePipeline(Trigger):
    """A job of a pipeline's action. The event does not name the pipeline. The job's credentials are left out.

    https://docs.aws.amazon.com/codepipeline/latest/userguide/actions-invoke-lambda-function.html
    """

    source = "codepipeline"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        job = mapping(mapping(event).get(_JOB))
        return "id" in job and "data" in job

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        job = mapping(mapping(event).get(_JOB))
        return cls.description({"aws.codepipeline.job_id": text(job.get("id"))}, name="CodePipeline job")


class CodeDeploy(Trigger):
    """A hook of a deployment's lifecycle. The event does not name the hook. The id of the hook's execution is left out,
    because it is the token with which the hook reports its verdict.

    https://docs.aws.amazon.com/codedeploy/latest/userguide/reference-appspec-file-structure-hooks.html
    """

    source = "codedeploy"
    keys = ("DeploymentId", "LifecycleEventHookExecutionId")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        deployment = text(mapping(event).get("DeploymentId"))
        return cls.description({"aws.codedeploy.deployment_id": deployment}, name="CodeDeploy hook")


class CodeCommit(Batch):
    """A push to a repository, or a change of its branches and tags.

    https://docs.aws.amazon.com/lambda/latest/dg/services-codecommit.html
    """

    source = "codecommit"
    trigger = "datasource"
    event_source = "aws:codecommit"

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        records = records_of(event)
        arn = cls.arn_of(records)
        repository = arn.rpartition(":")[2] if arn and arn != MULTIPLE else arn
        trigger = same(records, lambda record: text(record.get("eventTriggerName")))
        facts = {
            "faas.document.collection": single(repository),
            "aws.codecommit.event_name": single(same(records, lambda record: text(record.get("eventName")))),
            "aws.codecommit.trigger_name": single(trigger),
            "vcs.ref.head.revision": single(same(records, _commit)),
            ARN: single(arn),
        }
        name = " ".join(part for part in (repository, single(trigger)) if part) or None
        return cls.description(facts, name=name, records=len(records))


def _commit(record: Mapping[Any, Any]) -> str | None:
    references = sequence(mapping(record.get("codecommit")).get("references"))
    return text(mapping(references[0]).get("commit")) if len(references) == 1 else None
