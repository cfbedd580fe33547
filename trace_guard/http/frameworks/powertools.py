"""Powertools for AWS Lambda: the routes of its event handlers, and exceptions that it turns into responses.

https://docs.aws.amazon.com/powertools/python/latest/core/event_handler/api_gateway/
"""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

from ...contain import contain
from ..routing import RoutedRequest

__all__ = ["connect", "is_not_found"]


def connect(handlers: ModuleType) -> None:
    """Watch the calls of routes, with their middleware.

    Args:
        handlers: ``aws_lambda_powertools.event_handler.api_gateway``.
    """
    plain = handlers.Route.__call__
    plain_async = getattr(handlers.Route, "call_async", None)  # not in older releases

    @functools.wraps(plain)
    def call(route: Any, *args: Any, **keywords: Any) -> Any:
        traced = _routed(route)
        try:
            return plain(route, *args, **keywords)
        except Exception as error:
            if traced is not None:
                traced.caught(error)
            raise

    handlers.Route.__call__ = call
    if plain_async is None:
        return

    @functools.wraps(plain_async)
    async def call_async(route: Any, *args: Any, **keywords: Any) -> Any:
        traced = _routed(route)
        try:
            return await plain_async(route, *args, **keywords)
        except Exception as error:
            if traced is not None:
                traced.caught(error)
            raise

    handlers.Route.call_async = call_async


def _routed(route: Any) -> RoutedRequest | None:
    traced = RoutedRequest.current()
    if traced is not None:
        with contain("read the route of a request"):
            if not is_not_found(route):
                traced.routed(route.path)
    return traced


def is_not_found(route: Any) -> bool:
    """True for the route that Powertools creates to run the middleware when no route matches. Its path is that of the
    request, which is no name."""
    function = route.func
    return bool(
        function.__name__ == "not_found_handler" and function.__module__.startswith("aws_lambda_powertools.")
    )
