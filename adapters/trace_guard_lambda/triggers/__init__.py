"""The event sources of Lambda: one class each, in a table::

    from trace_guard_lambda.triggers import describe, judge, parentage

    description = describe(event, context)
    parent, metadata = parentage(description.carriers, description.fallbacks)
    judgement = judge(description, result)

An event and Lambda's context come in. A description of the invocation goes out: name, trigger, metadata and trace
contexts. After the handler, its result comes in and a judgement goes out: an error or None, and metadata.
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
