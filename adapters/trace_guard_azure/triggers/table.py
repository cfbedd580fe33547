"""The table of triggers."""

from __future__ import annotations

from typing import Any

from ..declaration import Declaration
from .data import Blob, CosmosDb, Sql
from .description import Trigger
from .http import Http
from .messages import EventHub, Kafka, Queue, RabbitMq, ServiceBus
from .others import EventGrid, McpTool, Other, Timer, Warmup

__all__ = ["TRIGGERS", "trigger_of"]

TRIGGERS: tuple[type[Trigger], ...] = (
    Http, Timer, Queue, ServiceBus, EventHub, EventGrid, Kafka, RabbitMq, Blob, CosmosDb, Sql, McpTool, Warmup,
)

_BY_KIND = {kind: trigger for trigger in TRIGGERS for kind in trigger.kinds}
_BY_TYPE = {name: trigger for trigger in TRIGGERS for name in trigger.types}


def trigger_of(declared: Declaration, value: Any) -> type[Trigger]:
    """The trigger that describes a value. The declaration decides. Without one, the type of the value decides, or that
    of the first value of a list."""
    if declared.kind is not None:
        return _BY_KIND.get(declared.kind.lower(), Other)
    trigger = _of_class(value)
    if trigger is None and isinstance(value, (list, tuple)) and value:
        trigger = _of_class(value[0])
        if trigger is Http:  # a list is never a batch of requests
            trigger = None
    return trigger or Other


def _of_class(value: Any) -> type[Trigger] | None:
    return next((_BY_TYPE[kind.__name__] for kind in type(value).__mro__ if kind.__name__ in _BY_TYPE), None)
