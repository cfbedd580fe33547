"""Closes and delivers before the host ends a worker.

The host kills workers, sometimes with SIGTERM first. SIGTERM kills Python workers without running ``finally`` or exit
handlers. trace-guard closes and delivers first and then calls the previous handler.
"""

from __future__ import annotations

import sys

from trace_guard.contain import contain
from trace_guard.runtime.sigterm import SigtermListener

from .environment import is_worker

__all__ = ["keep_listening", "prepare_for_shutdown"]

_WORKERS = ("azure_functions_runtime", "azure_functions_runtime_v1", "azure_functions_worker", "proxy_worker")

# App Service gives a container 5 s to stop by default (WEBSITES_CONTAINER_STOP_TIME_LIMIT).
_listener = SigtermListener(3.0)


def prepare_for_shutdown() -> None:
    """Listen for SIGTERM, in a worker only. Call it at import, which runs on the main thread: only that thread may
    install a handler."""
    if is_worker() or any(module in sys.modules for module in _WORKERS):
        with contain("listen for the end of the worker"):
            _listener.install()


def keep_listening() -> None:
    """Listen in front of a handler that was installed later.

    The server of the FastAPI extension installs a handler after it has loaded the app. That handler cuts streams off at
    once, as if their clients had disconnected. Call this in an invocation: those of coroutine functions run on the main
    thread.
    """
    with contain("listen for the end of the worker"):
        _listener.keep_first()
