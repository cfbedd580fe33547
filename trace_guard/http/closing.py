"""Closes an invocation on a thread that the framework may interrupt with an exception.

With ``THREADED_TIMEOUT_ENABLED=true``, a timer of the Functions Framework raises ``RequestTimeoutException`` between
any two instructions of the thread that answers a request. In user code, that is the intended effect. During the
delivery, it would turn an answered request's 200 into a 500.

https://github.com/GoogleCloudPlatform/functions-framework-python/blob/main/src/functions_framework/request_timeout.py
"""

from __future__ import annotations

import contextvars
import os
import threading
from typing import Any

from ..contain import contain, logger
from ..invocation.invocation import NOTHING, Invocation
from ..system.threads import QuietThread

__all__ = ["close"]

# The settings bound the closing. This bound is for a thread that never starts to run.
_PATIENCE_SECONDS = 60.0


def close(invocation: Invocation, error: BaseException | None = None, *, output: Any = NOTHING) -> None:
    """:meth:`Invocation.close`, on a separate thread if this one may be interrupted."""
    if os.environ.get("THREADED_TIMEOUT_ENABLED", "").lower() == "true":
        with contain("close an invocation on another thread"):
            # The context of this thread is used for the next request.
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

        self._thread = QuietThread(target=run, name="trace-guard-close", daemon=True)

    def wait(self) -> None:
        """Start the thread and wait for its end. The framework interrupts at most once per request, so try twice."""
        for _ in range(2):
            try:
                if self._thread.ident is None:
                    self._thread.start()
                self._done.wait(_PATIENCE_SECONDS)
                return
            except Exception as interruption:  # noqa: BLE001 - from the framework, or no thread can start
                logger.debug("closing an invocation was interrupted by %r", interruption)
