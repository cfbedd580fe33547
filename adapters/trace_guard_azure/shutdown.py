"""The end of a worker.

The host kills workers. SIGTERM, where it comes first, kills Python workers without running ``finally`` or exit
handlers. trace-guard closes and delivers first and passes the signal on to the handler that was there before.
"""

from __future__ import annotations

import sys

from trace_guard.contain import contain
from trace_guard.runtime.sigterm import SigtermListener

from .environment import is_worker

__all__ = ["keep_listening", "prepare_for_shutdown"]

_WORKERS = ("azure_functions_runtime", "azure_functions_runtime_v1", "azure_functions_worker", "proxy_worker")

# Of the 5 s that App Service gives a container to stop by default (WEBSITES_CONTAINER_STOP_TIME_LIMIT).
_listener = SigtermListener(3.0)


def prepare_for_shutdown() -> None:
    """Close and deliver what is open when SIGTERM comes, in a worker only. Call it at import, which is on the main
    thread: no other may install a handler."""
    if is_worker() or any(one in sys.modules for one in _WORKERS):
        with contain("listen for the end of the worker"):
            _listener.install()


def keep_listening() -> None:
    """Listen in front of a handler that was installed since. The server of the FastAPI extension installs one when the
    app has been loaded. It cuts streams off as soon as the signal comes, as if their clients had disconnected. Call it
    in an invocation: that of a coroutine function is on the main thread."""
    with contain("listen for the end of the worker"):
        _listener.keep_first()
