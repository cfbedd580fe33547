"""The table of event sources, in the order in which they are tried.

A family's module is imported only for an event that may belong to it. Most functions have one or two event sources, and
most Lambda packages have no compiled files, so importing all modules would slow every cold start.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from importlib import import_module
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from trace_guard.contain import contain, contained
from trace_guard.invocation.reading import LOOKED_AT, mapping

from .description import Description, Judgement, Trigger
from .direct import Direct, Other, fallbacks_of
from .reading import first_record

__all__ = ["TRIGGERS", "describe", "judge"]

if TYPE_CHECKING:
    TRIGGERS: tuple[type[Trigger], ...]
    """Every class of the table, in order; loads them all."""

Fields = Mapping[Any, Any]


class Family(NamedTuple):
    """The triggers of one module.

    Attributes:
        module: its name.
        classes: the names of the triggers, the most specific first.
        may_be: whether an event may belong to one of them, given the event and its first record.
    """

    module: str
    classes: tuple[str, ...]
    may_be: Callable[[Fields, Fields], bool]


def _has(*keys: str) -> Callable[[Fields, Fields], bool]:
    if len(keys) == 1:
        (only,) = keys
        return lambda event, record: only in event
    return lambda event, record: any(key in event for key in keys)


def _is_from(*services: str) -> Callable[[Fields, Fields], bool]:
    return lambda event, record: (record.get("eventSource") or record.get("EventSource")) in services


FAMILIES = (
    Family("authorizers", ("Authorizer", "AppSyncAuthorizer"), _has("methodArn", "routeArn", "authorizationToken")),
    Family(
        "http", ("FunctionUrl", "HttpApi", "WebSocketApi", "LoadBalancer", "RestApi"),
        _has("requestContext", "resource"),
    ),
    Family("vpc_lattice", ("VpcLattice", "VpcLatticeV1"), _has("method")),
    Family("cloudfront", ("CloudFront",), lambda event, record: "cf" in record),
    Family("queues", ("SnsInSqs", "Sqs", "Sns"), _is_from("aws:sqs", "aws:sns")),
    Family("eventbridge", ("Schedule", "EventBridge"), _has("detail-type")),
    Family("streams", ("Kinesis", "DynamoDb"), _is_from("aws:kinesis", "aws:dynamodb")),
    Family("s3", ("S3",), _is_from("aws:s3")),
    Family("ses", ("Ses",), _is_from("aws:ses")),
    Family("developer_tools", ("CodeCommit",), _is_from("aws:codecommit")),
    Family("amazon_mq", ("ActiveMq", "RabbitMq"), _has("messages", "rmqMessagesByQueue")),
    Family("documentdb", ("DocumentDb",), _has("events")),
    Family("streams", ("Kafka",), _has("eventSource")),
    Family("firehose", ("Firehose",), _has("deliveryStreamArn")),
    Family("s3_batch", ("S3Batch",), _has("tasks")),
    Family("s3_object_lambda", ("S3ObjectLambda",), _has("xAmzRequestId")),
    Family("cloudwatch_logs", ("CloudWatchLogs",), _has("awslogs")),
    Family("cloudwatch", ("Alarm", "DashboardWidget"), _has("alarmData", "widgetContext")),
    Family("cognito", ("Cognito",), _has("triggerSource")),
    Family("appsync", ("AppSync", "AppSyncEvents"), _has("info", "fieldName")),
    Family("appsync", ("AppSyncBatch",), lambda event, record: "info" in record or "fieldName" in record),
    Family("bedrock", ("BedrockAgent",), _has("actionGroup")),
    Family("lex", ("Lex", "LexV1"), _has("bot")),
    Family("connect", ("Connect",), _has("Details")),
    Family("iot", ("IotRegistry", "IotClient"), _has("eventType")),
    Family("iot", ("IotAuthorizer", "IotProvisioning"), _has("connectionMetadata", "templateArn")),
    Family("transfer", ("TransferAuthorizer", "TransferStep"), _has("serverId", "fileLocation")),
    Family("cloudformation", ("CustomResource",), _has("StackId")),
    Family("aws_config", ("ConfigRule",), _has("configRuleName")),
    Family("developer_tools", ("CodePipeline", "CodeDeploy"), _has("CodePipeline.job", "DeploymentId")),
    Family("secrets_manager", ("SecretRotation",), _has("SecretId")),
    Family(
        "step_functions", ("StepFunctions",),
        lambda event, record: "Execution" in event
        or any("Execution" in mapping(value) for value in islice(event.values(), LOOKED_AT)),
    ),
    Family("direct", ("AgentCoreGateway", "Direct", "Other"), lambda event, record: True),
)
"""The first class whose ``infer`` returns True describes the event."""

_loaded: dict[str, type[Trigger]] = {Direct.source: Direct, Other.source: Other}


def describe(event: Any, context: Any = None) -> Description:
    """Describe an invocation by its event and Lambda's context.

    Never raises. A malformed event is described as far as possible. It takes a few microseconds. Only the first 100
    records of a batch are examined, so a batch of 10,000 takes no longer.
    """
    trigger = contained("infer the event's source", lambda: _inferred(event, context), Other)
    bare = Description(trigger=trigger.trigger, source=trigger.source)
    description = contained("describe the event", lambda: trigger.describe(event, context), bare)
    fallbacks = contained("read the trace context outside the event", lambda: fallbacks_of(context), ())
    return description._replace(fallbacks=fallbacks) if fallbacks else description


def judge(description: Description, result: Any) -> Judgement:
    """Judge a handler's result: its HTTP status, or the failed records of a batch. Never raises."""
    trigger = contained("find the event's source", lambda: _of_source(description.source), Other)
    return contained("judge the result", lambda: trigger.judge(description, result), Judgement())


def _inferred(event: Any, context: Any) -> type[Trigger]:
    fields, record = mapping(event), first_record(event)
    for family in FAMILIES:
        if not family.may_be(fields, record):
            continue
        for trigger in _classes(family):
            with contain("infer the event's source"):
                if trigger.infer(event, context):
                    return trigger
    return Other


@cache
def _classes(family: Family) -> list[type[Trigger]]:
    module = import_module(f".{family.module}", __package__)
    classes: list[type[Trigger]] = [getattr(module, name) for name in family.classes]
    for trigger in classes:
        _loaded[trigger.source] = trigger
    return classes


def _of_source(source: str) -> type[Trigger]:
    if source not in _loaded:  # the description was not made by describe()
        for family in FAMILIES:
            _classes(family)
    return _loaded.get(source, Other)


def __getattr__(name: str) -> Any:
    if name == "TRIGGERS":
        return tuple(trigger for family in FAMILIES for trigger in _classes(family))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
