"""Where Lambda's own runtime client lets others know what becomes of a result.

The client (``awslambdaric``, in the managed runtimes and in container images) posts a result, or an error, and
then asks for the next event. Between the two the caller has its answer, and the environment is not frozen yet.
It offers no hooks, so that the methods of its class are wrapped; where they are not to be found, nothing is.

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
    """What is told of the runtime's doings, on its main thread."""

    def before_next(self) -> None:
        """The response is on its way, and the next event will be asked for as soon as this returns."""

    def event_came(self, request_id: str | None) -> None:
        """The next event is there, and will be handed to the function; None if its client does not say which."""

    def error_posted(self, request_id: str, error: str) -> None:
        """An error was posted as the outcome of this request; its JSON."""

    def result_refused(self, request_id: str, error: BaseException) -> None:
        """The result could not be posted, which the process will die of."""


def listen(listener: Listener) -> bool:
    """Tell ``listener`` from now on; False if this process does not run under a client that is known."""
    for module in _MODULES:
        for name in _CLASSES:
            found = getattr(sys.modules.get(module), name, None)
            if isinstance(found, type) and "wait_next_invocation" in found.__dict__:
                _wrap(found, listener)
                return True
    return False


def _wrap(client: type, listener: Listener) -> None:
    def asking(plain: Callable[..., Any]) -> Callable[..., Any]:
        def wait_next_invocation(*args: Any, **keywords: Any) -> Any:
            with contain("deliver before the next event"):
                listener.before_next()
            event = plain(*args, **keywords)
            with contain("take note of an event"):
                listener.event_came(getattr(event, "invoke_id", None))
            return event

        return wait_next_invocation

    def failing(plain: Callable[..., Any]) -> Callable[..., Any]:
        def post_invocation_error(self: Any, invoke_id: Any, error: Any, *args: Any, **keywords: Any) -> Any:
            posted = plain(self, invoke_id, error, *args, **keywords)
            with contain("take note of an error that was posted"):
                listener.error_posted(invoke_id, error)
            return posted

        return post_invocation_error

    def answering(plain: Callable[..., Any]) -> Callable[..., Any]:
        def post_invocation_result(self: Any, invoke_id: Any, *args: Any, **keywords: Any) -> Any:
            try:
                return plain(self, invoke_id, *args, **keywords)
            except BaseException as error:
                with contain("take note of a result that was refused"):
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
