"""The steps of a guarded call, for tests that break them.

A step is a function or method, named ``module:qualified.name``. Any step may raise, or be interrupted by a signal
handler, without an effect on user code. Only the steps in :data:`OUTERMOST` are exempt. Tests take the names from here,
so each name has one place, and use :func:`replaced` to put another function in place of a step::

    with replaced("trace_guard.payload:Payload.copy", fail) as calls:
        handler(event, context)
    assert calls.count == 1
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from ..sdk.gateway import Gateway

__all__ = ["AZURE", "INVOCATION", "OUTERMOST", "OUTERMOST_OF_BLOCKS", "RECORDS", "Calls", "replaced"]

OUTERMOST = frozenset({
    "trace_guard.contain:contain.__init__",
    "trace_guard.contain:contain.__enter__",
    "trace_guard.contain:contain.__exit__",
    "trace_guard.invocation.wrap:opened",
    "trace_guard.invocation.invocation:Invocation.close",
})
"""Steps that call user code, or contain the others. No other step could contain their faults, so each is a line or two
that can't fail."""

OUTERMOST_OF_BLOCKS = OUTERMOST | {
    "trace_guard.deadline:Deadline.never",
    "trace_guard.guard:Guard.invocation",
    *(
        f"trace_guard.invocation.invocation:Invocation.{name}"
        for name in ("__init__", "__enter__", "__exit__", "__aenter__", "__aexit__", "open", "aclose", "set_output")
    ),
    "trace_guard.invocation.wrap:_closed",
    "trace_guard.invocation.wrap:InContext.__init__",
    "trace_guard.invocation.wrap:InContext.__await__",
}
"""The same for ``with`` blocks, coroutines and generators."""

INVOCATION = (
    "trace_guard.sdk.spans:identity_of",
    "trace_guard.runtime.pipeline:Pipeline.begin",
    "trace_guard.runtime.watchdog:Watchdog.arm",
    "trace_guard.payload:Payload.copy",
    "trace_guard.sdk.direct:made",
    "trace_guard.runtime.watchdog:Watchdog.disarm",
    "trace_guard.invocation.invocation:Invocation._leave",
    "trace_guard.invocation.invocation:Invocation._log_end",
    "trace_guard.runtime.pipeline:Pipeline.close_spans",
    "trace_guard.delivery.courier:Courier.deliver",
)
"""One step of each part of an invocation, in order: opening, journal, watchdog, rows, closing and delivery."""

RECORDS = (
    "trace_guard_lambda.record_facts:plain_record",
    "trace_guard_lambda.record_facts:facts_of_record",
    "trace_guard.invocation.records:live_invocation",
    "trace_guard.payload:Payload.copy",
    "trace_guard.sdk.masking:error_text",
    "trace_guard.invocation.root_metadata:RootMetadata.count",
    *(
        f"braintrust.logger:SpanImpl.{name}"
        for name in ("start_span", "set_current", "log", "unset_current", "end")
    ),
)
"""The steps around the handler of one record, with the SDK's methods that they call."""

AZURE = (
    "trace_guard_azure.call:GuardedCall.__init__",
    "trace_guard_azure.call:context_in",
    "trace_guard_azure.call:trigger_of",
    "trace_guard_azure.call:parentage",
    "trace_guard_azure.call:retry_facts_of",
    "trace_guard_azure.call:streams",
    "trace_guard_azure.call:invocation_id_of",
    "trace_guard_azure.environment:facts",
    "trace_guard_azure.responses:judge",
    "trace_guard_azure.responses:answer_in",
    "trace_guard_azure.timeouts:_host_seconds",
    "trace_guard_azure.triggers.http:Http.describe",
    "trace_guard.invocation.invocation:Invocation._open",
    "trace_guard.invocation.closing:Closing.__init__",
    "trace_guard.runtime.pipeline:Pipeline.announce",
)
"""The steps of the Azure adapter, and the opening and closing of its invocations."""


class Calls:
    """Counts the calls of a replaced step."""

    count = 0


@contextlib.contextmanager
def replaced(step: str, act: Callable[..., Any]) -> Iterator[Calls]:
    """Replace a step while the block runs, also where other modules have imported it by name.

    Args:
        step: ``module:qualified.name`` of a function, method or property.
        act: called with the original function and its arguments, in place of each call.
    """
    module, _, path = step.partition(":")
    owner: Any = import_module(module)
    *outer, name = path.split(".")
    for part in outer:
        owner = getattr(owner, part)
    original = inspect.getattr_static(owner, name)
    function: Any = original.fget if isinstance(original, property) else getattr(original, "__func__", original)
    calls = Calls()

    @functools.wraps(function)
    def replacement(*args: Any, **keywords: Any) -> Any:
        calls.count += 1
        return act(function, *args, **keywords)

    wrapper: Any = replacement
    if isinstance(original, (property, staticmethod, classmethod)):
        wrapper = type(original)(replacement)
    owners = [owner]
    if inspect.ismodule(owner) and function.__module__ == module:
        owners += [
            other for other_name, other in list(sys.modules.items())
            if other_name.startswith("trace_guard") and other is not owner and vars(other).get(name) is original
        ]
    routes = Gateway.routes
    try:
        for each in owners:
            setattr(each, name, wrapper)
        # The gateway calls its methods through a table.
        Gateway.routes = tuple((*route[:2], wrapper if route[2] is original else route[2]) for route in routes)
        yield calls
    finally:
        Gateway.routes = routes
        for each in owners:
            setattr(each, name, original)
