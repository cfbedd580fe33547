"""Describes the values of triggers, with a class for each kind of trigger and a table of them.

A trigger's value and the function's declaration come in. A description goes out: metadata, input and trace contexts.
Only attributes of values are read. No types of ``azure.functions`` or other SDKs are imported.
"""

from .description import Description, Trigger
from .table import TRIGGERS, trigger_of

__all__ = ["TRIGGERS", "Description", "Trigger", "trigger_of"]
