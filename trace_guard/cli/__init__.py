"""The ``trace-guard`` command: arguments and the state directory come in; text or JSON and an exit code go out.

``traces`` and ``show`` read the local store, ``status`` and ``recover`` the journals (P5), ``run`` supervises a command
(P3), ``reap`` repairs stuck traces (P6), ``demo`` shows every failure, ``serve`` runs a simulated Braintrust,
``layer`` builds a Lambda layer. Each command imports only what it needs.
"""

from .command_line import main

__all__ = ["main"]
