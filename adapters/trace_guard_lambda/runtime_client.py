"""Hooks into Lambda's own runtime client.

The client (``awslambdaric``, in the managed runtimes and in container images) posts a result or an error, and then asks
for the next event. Between the two, the caller has its answer and the environment is not frozen yet. The client offers
no hooks, so the methods of its class are wrapped if they exist.

https://github.com/aws/aws-lambda-python-runtime-interface-client/blob/main/awslambdaric/lambda_runtime_client.py
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, Protocol

from trace_guard.contain import contain

__all__ = ["Listener", "listen"]

_MODULES = ("awslambdaric.lambda_runtime_client", "lambda_runtime_client")
_CLASSES = ("BaseLambdaRuntimeClient", "LambdaRuntimeClient")
_MARK = "_wrapped_by_trace_guard"


class Listener(Protocol):
    """Receives the client's calls on the runtime's main thread."""

    def before_next(self) -> None:
        """The response is on its way. The client asks for the next event when this returns."""

    def event_came(self, request_id: str | None) -> None:
        """The next event has arrived. The id is None if the client does not have it."""

    def error_posted(self, request_id: str, error: str) -> None:
        """The client has posted an error, as JSON, as the outcome of this request."""

    def result_refused(self, request_id: str, error: BaseException) -> None:
        """The client could not post the result. The process ends with this error."""


def listen(listener: Listener) -> bool:
    """Call ``listener`` from now on. Returns False if this process does not run under a known client."""
    for module in _MODULES:
        for name in _CLASSES:
            client = getattr(sys.modules.get(module), name, None)
            if isinstance(client, type) and "wait_next_invocation" in client.__dict__:
                _wrap(client, listener)
                return True
    return False


def _wrap(client: type, listener: Listener) -> None:
    def asking(plain: Callable[..., Any]) -> Callable[..., Any]:
        def wait_next_invocation(*args: Any, **keywords: Any) -> Any:
            with contain("deliver before the next event"):
                listener.before_next()
            event = plain(*args, **keywords)
            with contain("record an event"):
                listener.event_came(getattr(event, "invoke_id", None))
            return event

        return wait_next_invocation

    def failing(plain: Callable[..., Any]) -> Callable[..., Any]:
        def post_invocation_error(self: Any, invoke_id: Any, error: Any, *args: Any, **keywords: Any) -> Any:
            posted = plain(self, invoke_id, error, *args, **keywords)
            with contain("record a posted error"):
                listener.error_posted(invoke_id, error)
            return posted

        return post_invocation_error

    def answering(plain: Callable[..., Any]) -> Callable[..., Any]:
        def post_invocation_result(self: Any, invoke_id: Any, *args: Any, **keywords: Any) -> Any:
            try:
                return plain(self, invoke_id, *args, **keywords)
            except BaseException as error:
                with contain("record a refused result"):
                    listener.result_refused(invoke_id, error)
                raise

        return post_invocation_result

    for name, wrap in (
        ("wait_next_invocation", asking), ("post_invocation_error", failing), ("post_invocation_result", answering),
    ):
        plain = client.__dict__.get(name)
        if callable(plain) and not hasattr(plain, _MARK):
            wrapped = functools.wraps(plain)(wrap(plain))
            setattr(wrapped, _MARK, True)
            setattr(client, name, wrapped)
