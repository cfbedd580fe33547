"""Reads the route and the exception of a request where its framework leaves them.

In: the frameworks that the program has imported. Out: calls of
:meth:`.routing.RoutedRequest.routed` and :meth:`.routing.RoutedRequest.caught` for the request of the current context.
One module for each framework.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType

from ...contain import contain
from . import django, flask, powertools, starlette

__all__ = ["connect"]

# The module of a framework, the attribute that the reader needs, and what connects to it.
_READERS: dict[str, tuple[str, Callable[[ModuleType], object]]] = {
    "flask": ("got_request_exception", flask.connect),
    "quart": ("got_request_exception", flask.connect),
    "django.core.handlers.base": ("BaseHandler", django.connect),
    "starlette.middleware.exceptions": ("ExceptionMiddleware", starlette.connect),
    "aws_lambda_powertools.event_handler.api_gateway": ("ApiGatewayResolver", powertools.connect),
}
_waiting = dict(_READERS)


def connect() -> None:
    """Connect to each framework that has been imported since the last call. Call it when a request begins."""
    for name in tuple(_waiting):
        module = sys.modules.get(name)
        if module is not None and hasattr(module, _waiting[name][0]):  # else another thread is importing it
            _, reader = _waiting.pop(name, ("", None))
            if reader is not None:
                with contain(f"connect to {name}"):
                    reader(module)
