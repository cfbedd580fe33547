"""The table of event sources, in the order in which they are asked.

A family's module is imported when an event comes that may be its own. A function is invoked by one source or two,
and a package without compiled files, as most are on Lambda, would pay for all of them at each cold start.
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

Found = Mapping[Any, Any]


class Family(NamedTuple):
    """The classes of one module, most particular first, and whether an event may be one of theirs, given the event
    and its first record."""

    module: str
    classes: tuple[str, ...]
    may_be: Callable[[Found, Found], bool]


def _has(*keys: str) -> Callable[[Found, Found], bool]:
    return lambda event, record: any(key in event for key in keys)


def _is_from(*services: str) -> Callable[[Found, Found], bool]:
    return lambda event, record: (record.get("eventSource") or record.get("EventSource")) in services


FAMILIES = (
    Family(
        "http", ("Authorizer", "FunctionUrl", "HttpApi", "WebSocketApi", "LoadBalancer", "RestApi"),
        _has("requestContext", "resource", "methodArn", "routeArn"),
    ),
    Family("queues", ("SnsInSqs", "Sqs", "Sns"), _is_from("aws:sqs", "aws:sns")),
    Family("eventbridge", ("Schedule", "EventBridge"), _has("detail-type")),
    Family("streams", ("Kinesis", "DynamoDb"), _is_from("aws:kinesis", "aws:dynamodb")),
    Family("streams", ("Kafka",), _has("eventSource")),
    Family("s3", ("S3",), _is_from("aws:s3")),
    Family("cloudwatch_logs", ("CloudWatchLogs",), _has("awslogs")),
    Family("cognito", ("Cognito",), _has("triggerSource")),
    Family("appsync", ("AppSync", "AppSyncEvents"), _has("info", "fieldName")),
    Family("appsync", ("AppSyncBatch",), lambda event, record: "info" in record or "fieldName" in record),
    Family("bedrock", ("BedrockAgent",), _has("actionGroup")),
    Family(
        "step_functions", ("StepFunctions",),
        lambda event, record: "Execution" in event
        or any("Execution" in mapping(one) for one in islice(event.values(), LOOKED_AT)),
    ),
    Family("direct", ("Direct", "Other"), lambda event, record: True),
)
"""The first class whose ``infer`` says yes describes the event."""

_loaded: dict[str, type[Trigger]] = {Direct.source: Direct, Other.source: Other}


def describe(event: Any, context: Any = None) -> Description:
    """What an event and Lambda's context say of the invocation.

    It never raises, whatever they are; of a malformed event that is said which can be. It takes some microseconds,
    and no more for a batch of 10,000 records than for one of 100, as only the first 100 are looked at.
    """
    trigger = contained("tell the event's source", lambda: _inferred(event, context), Other)
    bare = Description(trigger=trigger.trigger, source=trigger.source)
    said = contained("describe the event", lambda: trigger.describe(event, context), bare)
    fallbacks = contained("read the trace context beside the event", lambda: fallbacks_of(context), ())
    return said._replace(fallbacks=fallbacks) if fallbacks else said


def judge(description: Description, result: Any) -> Judgement:
    """What a handler's result says of an invocation that was described so: its HTTP status, the records of a batch
    that have failed. It never raises, whatever the result is."""
    trigger = contained("find the event's source", lambda: _of_source(description.source), Other)
    return contained("judge the result", lambda: trigger.judge(description, result), Judgement())


def _inferred(event: Any, context: Any) -> type[Trigger]:
    found, record = mapping(event), first_record(event)
    for family in FAMILIES:
        if not family.may_be(found, record):
            continue
        for trigger in _classes(family):
            with contain("tell the event's source"):
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
    if source not in _loaded:  # a description that was not made here
        for family in FAMILIES:
            _classes(family)
    return _loaded.get(source, Other)


def __getattr__(name: str) -> Any:
    if name == "TRIGGERS":
        return tuple(trigger for family in FAMILIES for trigger in _classes(family))
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
