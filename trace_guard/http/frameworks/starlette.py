"""Starlette and FastAPI: the route with the prefixes above it, and exceptions that handlers turn into responses."""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from ...contain import contain
from ..requests import prefix_of
from ..routing import RoutedRequest

__all__ = ["connect", "route_of"]


def route_of(scope: Mapping[str, Any], path: str) -> str | None:
    """The pattern of the route that Starlette or FastAPI has put into the scope, with those of the mounts above it.

    Args:
        path: of the request. A prefix that it does not have is left out, because a proxy has removed it.
    """
    route = scope.get("route")
    pattern = _pattern_of(route, scope)
    if pattern is None:
        return None
    if hasattr(route, "app") and not hasattr(route, "endpoint"):
        pattern = ""  # a mount, whose own path is in the prefix
    prefix = prefix_of(path, scope.get("root_path"))
    return _with_placeholders(prefix, scope.get("path_params"), pattern) + pattern


def _pattern_of(route: Any, scope: Mapping[str, Any]) -> str | None:
    # Recent releases of FastAPI keep the prefixes of included routers here, as a router may be included several times.
    fastapi = scope.get("fastapi")
    included = fastapi.get("effective_route_context") if isinstance(fastapi, Mapping) else None
    if included is not None and getattr(included, "original_route", None) is route:
        route = included
    pattern = getattr(route, "path", None) or getattr(route, "path_format", None)
    return pattern if isinstance(pattern, str) else None


def _with_placeholders(prefix: str, parameters: Any, pattern: str) -> str:
    """The prefix, in which the values of the mounts' parameters are placeholders again."""
    for name, value in parameters.items() if prefix and isinstance(parameters, Mapping) else ():
        if f"{{{name}" not in pattern:
            before, found, after = f"{prefix}/".rpartition(f"/{value}/")
            prefix = f"{before}/{{{name}}}/{after}".rstrip("/") if found else prefix
    return prefix


def connect(exceptions: ModuleType) -> None:
    """Watch the routes of applications, and what exception handlers turn into a response: a ``BaseHTTPMiddleware``
    around them runs them in a task of its own, and the middleware of the guard then sees only the response.

    Args:
        exceptions: ``starlette.middleware.exceptions``.
    """
    plain = exceptions.ExceptionMiddleware.__call__

    @functools.wraps(plain)
    async def call(self: Any, scope: Any, receive: Any, send: Any) -> Any:
        traced = RoutedRequest.current()
        if traced is None:
            return await plain(self, scope, receive, send)

        def read_route() -> None:
            with contain("read the route of a request"):
                traced.routed(route_of(scope, traced.path))

        async def watched(message: Any) -> Any:
            if message["type"] == "http.response.start":
                read_route()
                traced.caught(sys.exc_info()[1])
            return await send(message)

        try:
            return await plain(self, scope, receive, watched)
        except Exception as error:
            read_route()
            traced.caught(error)
            raise

    exceptions.ExceptionMiddleware.__call__ = call
