"""What else holds spans back, and is to let go of them before an invocation's rows are delivered.

Libraries log from threads, queues and batch processors of their own, which a freeze stops in the middle::

    guard.before_flush(flush_opentelemetry())                   # also for braintrust.otel
    guard.before_flush(lambda: concurrent.futures.wait(pending))
"""

from __future__ import annotations

import contextvars
import inspect
import sys
import threading
from collections.abc import Callable
from typing import Any

from ..contain import contain, logger
from ..deadline import Deadline

__all__ = ["FlushHooks", "flush_opentelemetry"]

_OPENTELEMETRY_MS = 2000


class FlushHooks:
    """Functions that are called when an invocation ends, each time, in the order in which they were added."""

    def __init__(self) -> None:
        self._functions: list[Callable[[], object]] = []
        self._overdue: list[threading.Thread] = []

    def __bool__(self) -> bool:
        return bool(self._functions)

    def add(self, function: Callable[[], object]) -> None:
        """
        Raises:
            TypeError: it can't be called without a loop.
        """
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"before_flush takes a plain function without parameters, not {function!r}")
        self._functions.append(function)

    def run(self, context: contextvars.Context, deadline: Deadline) -> None:
        """Call them in this context, on a thread of its own, and wait for it until the deadline. One that takes
        longer goes on, and until it has ended none is called again; the spans that it logs then are late."""
        # One that hangs would cost a thread for each invocation.
        self._overdue = [thread for thread in self._overdue if thread.is_alive()]
        if self._overdue:
            logger.debug("what before_flush was given still runs since an earlier invocation: it is not called again")
            return
        thread = threading.Thread(target=context.run, args=(self._call,), name="trace-guard-flush-hooks", daemon=True)
        thread.start()
        thread.join(min(deadline.remaining, threading.TIMEOUT_MAX))
        if thread.is_alive():
            self._overdue.append(thread)
            logger.debug("what before_flush was given has not ended in time")

    def _call(self) -> None:
        for function in self._functions:
            with contain(f"call {getattr(function, '__qualname__', function)} before the delivery"):
                function()


def flush_opentelemetry(provider: Any = None) -> Callable[[], object]:
    """For :meth:`Guard.before_flush`: has an OpenTelemetry tracer provider export what has ended.

    Args:
        provider: the one to flush; by default the global one, which also has the span processor of
            ``braintrust.otel``. It is asked for when an invocation ends, so that it may be set later.
    """

    def flush() -> None:
        trace = sys.modules.get("opentelemetry.trace")  # who has not imported it has nothing to flush
        chosen = provider if provider is not None else trace and trace.get_tracer_provider()
        force_flush = getattr(chosen, "force_flush", None)
        if force_flush is not None:
            force_flush(_OPENTELEMETRY_MS)

    return flush
