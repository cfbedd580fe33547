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
"""The worker passes its context to a parameter of this name only."""

# Each worker keeps the invocation's id in a thread-local variable of the thread on which the invocation begins.
_WORKERS = ("azure_functions_runtime", "azure_functions_runtime_v1", "azure_functions_worker")


_passed: contextvars.ContextVar[Any] = contextvars.ContextVar("trace_guard_azure_context", default=None)


class FunctionContext(Protocol):
    """The attributes that are read from ``azure.functions.Context``. Any may be missing: tests pass contexts of their
    own, or none."""

    @property
    def invocation_id(self) -> str:
        """The id of the invocation."""
        ...

    @property
    def function_name(self) -> str:
        """The name of the function."""
        ...

    @property
    def function_directory(self) -> str:
        """The directory of the function's file."""
        ...

    @property
    def trace_context(self) -> Any:
        """The host's trace context, with ``trace_parent`` and ``attributes``."""
        ...

    @property
    def retry_context(self) -> Any:
        """The count of retries and the last exception, if the function has a retry policy."""
        ...


def is_context(value: Any) -> bool:
    """True for the worker's context. A binding may have the same name."""
    return hasattr(value, "invocation_id") and hasattr(value, "function_name")


@contextlib.contextmanager
def passed(context: Any) -> Iterator[None]:
    """Pass the worker's context to the guard past the decorators between them, which must not see it."""
    token = _passed.set(context)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # an abandoned coroutine may be closed in another context
            _passed.reset(token)


def context_in(args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
    """The context among a call's arguments under any name, or from :func:`passed`; None without a context."""
    values = (keywords.get(CONTEXT), _passed.get(), *keywords.values(), *args)
    return next((value for value in values if is_context(value)), None)


def invocation_id_of(context: Any) -> str | None:
    """The invocation's id from the context, or from the worker's thread-local variable. Call it before the function
    first awaits anything, as another invocation may then use the thread."""
    identifier = getattr(context, "invocation_id", None)
    if identifier is None:
        for worker in _WORKERS:
            local = getattr(sys.modules.get(f"{worker}.bindings.context"), "_invocation_id_local", None)
            identifier = identifier or getattr(local, "invocation_id", None)
    return identifier if isinstance(identifier, str) and identifier else None


def carrier_of(context: Any) -> dict[str, str]:
    """The host's own trace context, with the caller's baggage."""
    trace = getattr(context, "trace_context", None)
    attributes = getattr(trace, "attributes", None)
    fields = {
        "traceparent": getattr(trace, "trace_parent", None),
        "tracestate": getattr(trace, "trace_state", None),
        "baggage": attributes.get("baggage") if isinstance(attributes, Mapping) else None,
    }
    return {name: value for name, value in fields.items() if isinstance(value, str) and value}


def retry_facts_of(context: Any) -> dict[str, Any]:
    """The number of this attempt and the limit, if the function has a retry policy.

    https://learn.microsoft.com/azure/azure-functions/functions-bindings-error-pages#retry-policies
    """
    retry = getattr(context, "retry_context", None)
    most, count = getattr(retry, "max_retry_count", None), getattr(retry, "retry_count", None)
    if not (isinstance(most, int) and isinstance(count, int) and (most > 0 or count > 0)):
        return {}
    return {"azure.functions.retry.count": count, "azure.functions.retry.max_count": most}
