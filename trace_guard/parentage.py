"""How a process learns of the span that its own work belongs below.

A supervisor, or whatever starts a process, puts what ``span.export()`` gives into the variable. The first invocation
of each thread of work in that process, that which is in no other and below no span, is then a span of that trace.
"""

from __future__ import annotations

__all__ = ["PARENT_VARIABLE"]

PARENT_VARIABLE = "TRACE_GUARD_PARENT"
