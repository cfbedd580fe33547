"""The worker's context of an invocation, ``azure.functions.Context``, and where to find it.

https://learn.microsoft.com/azure/azure-functions/functions-reference-python#context
"""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

__all__ = [
    "CONTEXT", "FunctionContext", "carrier_of", "context_in", "invocation_id_of", "is_context", "passed",
    "retry_facts_of",
]

CONTEXT = "context"
"""The one name of a parameter for which the worker passes the context."""

# Each worker keeps the id of the invocation for the thread that it begins on.
_WORKERS = ("azure_functions_runtime", "azure_functions_runtime_v1", "azure_functions_worker")


_passed: contextvars.ContextVar[Any] = contextvars.ContextVar("trace_guard_azure_context", default=None)


class FunctionContext(Protocol):
    """The part of ``azure.functions.Context`` that is read. Any of it may be missing: tests pass contexts of their
    own, or none."""

    @property
    def invocation_id(self) -> str: ...

    @property
    def function_name(self) -> str: ...

    @property
    def function_directory(self) -> str: ...

    @property
    def trace_context(self) -> Any: ...

    @property
    def retry_context(self) -> Any: ...


def is_context(value: Any) -> bool:
    """True for the worker's context; a binding may have its name."""
    return hasattr(value, "invocation_id") and hasattr(value, "function_name")


@contextlib.contextmanager
def passed(context: Any) -> Iterator[None]:
    """The worker has passed a context, which decorators between it and the guard are not to see."""
    token = _passed.set(context)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # a coroutine that is thrown away may be closed in another context
            _passed.reset(token)


def context_in(keywords: Mapping[str, Any]) -> Any:
    """The context among a call's arguments, else the one that was passed around them; None if there is none."""
    found = keywords.get(CONTEXT)
    if is_context(found):
        return found
    found = _passed.get()
    return found if is_context(found) else None


def invocation_id_of(context: Any) -> str | None:
    """The invocation's id: the context's, else what the worker keeps for this thread. To be asked before the function
    first waits for something."""
    found = getattr(context, "invocation_id", None)
    if found is None:
        for worker in _WORKERS:
            local = getattr(sys.modules.get(f"{worker}.bindings.context"), "_invocation_id_local", None)
            found = found or getattr(local, "invocation_id", None)
    return found if isinstance(found, str) and found else None


def carrier_of(context: Any) -> dict[str, str]:
    """The host's own trace context, with what baggage came along."""
    trace = getattr(context, "trace_context", None)
    attributes = getattr(trace, "attributes", None)
    found = {
        "traceparent": getattr(trace, "trace_parent", None),
        "tracestate": getattr(trace, "trace_state", None),
        "baggage": attributes.get("baggage") if isinstance(attributes, Mapping) else None,
    }
    return {name: value for name, value in found.items() if isinstance(value, str) and value}


def retry_facts_of(context: Any) -> dict[str, Any]:
    """Which attempt of a retry policy it is, where there is one.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-error-pages#retry-policies
    """
    retry = getattr(context, "retry_context", None)
    most, count = getattr(retry, "max_retry_count", None), getattr(retry, "retry_count", None)
    if not (isinstance(most, int) and isinstance(count, int) and (most > 0 or count > 0)):
        return {}
    return {"azure.functions.retry.count": count, "azure.functions.retry.max_count": most}
