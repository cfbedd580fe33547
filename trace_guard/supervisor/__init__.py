"""``trace-guard run``: a process around a command, which sees how that ends whatever it is.

It knows nothing of the Braintrust SDK, and so starts in a fraction of the time and memory that a guarded program takes.
"""

from .supervisor import Supervisor

__all__ = ["Supervisor"]
