"""Describes the values of triggers, with one class for each kind of trigger and a table of them.

No types of ``azure.functions``, or of SDKs whose types a function may ask for instead, are imported. Only their
attributes are read.
"""

from .description import Description, Trigger
from .table import TRIGGERS, trigger_of

__all__ = ["TRIGGERS", "Description", "Trigger", "trigger_of"]
