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
    """The class that describes a trigger's value. The declaration decides; without one, the class of the value, or of
    the first value of a list."""
    if declared.kind is not None:
        return _BY_KIND.get(declared.kind.lower(), Other)
    found = _of_class(value)
    if found is None and isinstance(value, (list, tuple)) and value:
        found = _of_class(value[0])
        if found is Http:  # requests come one at a time: this list is something else
            found = None
    return found or Other


def _of_class(value: Any) -> type[Trigger] | None:
    return next((_BY_TYPE[kind.__name__] for kind in type(value).__mro__ if kind.__name__ in _BY_TYPE), None)
