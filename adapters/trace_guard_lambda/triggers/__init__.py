"""What invoked a function: a table of event sources, each of which knows its events and describes them::

    from trace_guard_lambda.triggers import describe, judge, parentage

    description = describe(event, context)
    parent, metadata = parentage(description.carriers, description.fallbacks)
    judgement = judge(description, result)
"""

from typing import TYPE_CHECKING, Any

from trace_guard.invocation.propagation import parentage

from .description import Carrier, Description, Judgement, Trigger
from .table import describe, judge

if TYPE_CHECKING:
    from .table import TRIGGERS

__all__ = ["TRIGGERS", "Carrier", "Description", "Judgement", "Trigger", "describe", "judge", "parentage"]


def __getattr__(name: str) -> Any:
    if name == "TRIGGERS":  # loads every module of the table
        from . import table

        return table.TRIGGERS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
