"""``trace-guard run``: runs a command as a child process, traces it, and exits as the command exits.

A command line and settings come in. A root span with the command's exit status goes out, and so do closing rows for
every span that the command's processes left open when they died (P3). Signals, streams and the exit status behave as
they would without a supervisor, and no fault of tracing changes them (P7). The room does not import the Braintrust SDK,
so it starts faster and uses less memory than a guarded program.
"""

from .supervisor import Supervisor

__all__ = ["Supervisor"]
