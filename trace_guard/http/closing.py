"""Closes an invocation where the framework may raise an exception in the middle of it.

With ``THREADED_TIMEOUT_ENABLED=true`` the Functions Framework has a timer that raises ``RequestTimeoutException``
between any two instructions of the thread that answers a request. What hits user code is user code's; what hits the
delivery of a request that has been answered would turn its 200 into a 500.

https://github.com/GoogleCloudPlatform/functions-framework-python/blob/main/src/functions_framework/request_timeout.py
"""

from __future__ import annotations

import contextvars
import os
import threading
from typing import Any

from ..contain import contain, logger
from ..invocation.invocation import NOTHING, Invocation

__all__ = ["close"]

# Closing is bounded by the settings; this is for a thread that never came to life.
_PATIENCE_SECONDS = 60.0


def close(invocation: Invocation, error: BaseException | None = None, *, output: Any = NOTHING) -> None:
    """:meth:`Invocation.close`, in a thread of its own where this one may be interrupted."""
    if os.environ.get("THREADED_TIMEOUT_ENABLED", "").lower() == "true":
        with contain("close an invocation aside"):
            # In this thread's context, which goes on to the next request.
            invocation.span.unset_current()
        _Closing(invocation, error, output).wait()
    invocation.close(error, output=output)


class _Closing:
    def __init__(self, invocation: Invocation, error: BaseException | None, output: Any) -> None:
        self._done = threading.Event()
        context = contextvars.copy_context()

        def run() -> None:
            try:
                context.run(lambda: invocation.close(error, output=output))
            finally:
                self._done.set()

        self._thread = threading.Thread(target=run, name="trace-guard-close", daemon=True)

    def wait(self) -> None:
        """Start it, and wait for its end, whatever is raised here meanwhile: for each request that is done once."""
        for _ in range(2):
            try:
                if self._thread.ident is None:
                    self._thread.start()
                self._done.wait(_PATIENCE_SECONDS)
                return
            except Exception as interruption:  # noqa: BLE001 - the framework's, or no thread could be had
                logger.debug("closing an invocation was interrupted by %r", interruption)
