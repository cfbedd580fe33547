"""Hooks that flush libraries which buffer spans.

Some libraries log from their own threads, queues and batch processors. The hooks flush these before an invocation's
rows are delivered, because a freeze of the process would stop them in the middle::

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
from ..system.threads import QuietThread

__all__ = ["FlushHooks", "flush_opentelemetry"]

_OPENTELEMETRY_MS = 2000


class FlushHooks:
    """Functions that are called at the end of each invocation, in the order in which they were added."""

    def __init__(self) -> None:
        self._functions: list[Callable[[], object]] = []
        self._overdue: list[threading.Thread] = []

    def __bool__(self) -> bool:
        return bool(self._functions)

    def add(self, function: Callable[[], object]) -> None:
        """Add a function.

        Raises:
            TypeError: the function is not callable, or is a coroutine function.
        """
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError(f"before_flush takes a plain function without parameters, not {function!r}")
        self._functions.append(function)

    def run(self, context: contextvars.Context, deadline: Deadline) -> None:
        """Call the functions in this context, on a separate thread, and wait for them until the deadline.

        Functions that take longer keep running. No function is called again until they have ended, and spans that
        they log after the deadline are late.
        """
        # Without this check, a function that hangs would cost one thread per invocation.
        self._overdue = [thread for thread in self._overdue if thread.is_alive()]
        if self._overdue:
            logger.debug("flush hooks of an earlier invocation are still running: they are not called again")
            return
        thread = QuietThread(target=context.run, args=(self._call,), name="trace-guard-flush-hooks", daemon=True)
        thread.start()
        thread.join(min(deadline.remaining, threading.TIMEOUT_MAX))
        if thread.is_alive():
            self._overdue.append(thread)
            logger.debug("the flush hooks did not finish in time")

    def _call(self) -> None:
        for function in self._functions:
            with contain(f"call {getattr(function, '__qualname__', function)} before the delivery"):
                function()


def flush_opentelemetry(provider: Any = None) -> Callable[[], object]:
    """A function for :meth:`Guard.before_flush` that makes an OpenTelemetry tracer provider export its ended spans.

    Args:
        provider: the tracer provider. The default is the global one, which also has the span processor of
            ``braintrust.otel``. It is looked up at the end of each invocation, so it may be set later.
    """

    def flush() -> None:
        trace = sys.modules.get("opentelemetry.trace")  # without this import there is nothing to flush
        chosen = provider if provider is not None else trace and trace.get_tracer_provider()
        force_flush = getattr(chosen, "force_flush", None)
        if force_flush is not None:
            force_flush(_OPENTELEMETRY_MS)

    return flush
