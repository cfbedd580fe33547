"""What is said of an invocation by what triggered it.

One class for each kind of trigger, and a table of them. None of the types of ``azure.functions``, nor of the SDKs whose
types a function may ask for instead, is imported: their attributes are read.
"""

from .description import Description, Trigger
from .table import TRIGGERS, trigger_of

__all__ = ["TRIGGERS", "Description", "Trigger", "trigger_of"]
