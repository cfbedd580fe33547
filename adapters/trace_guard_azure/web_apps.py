"""The routes of functions and web applications, and the exceptions that frameworks catch.

An ``AsgiFunctionApp`` or ``WsgiFunctionApp`` has a single function for all paths, so the function's name does not help
to tell traces apart. They are named after the route that the application finds.
"""

from __future__ import annotations

from typing import Any

from trace_guard import Invocation
from trace_guard.http import frameworks
from trace_guard.http.requests import HttpRequest, default_name
from trace_guard.http.routing import RoutedRequest

from .declaration import Declaration
from .timeouts import host_file
from .triggers.http import path_of

__all__ = ["WEB_APPS", "route_of", "routed_request"]

WEB_APPS = ("asgi", "wsgi")
"""Types of functions that pass all requests to an application."""

def route_of(declared: Declaration, directory: str | None) -> str | None:
    """The route of a function with the app's prefix; None without a declared route, or if an application finds it."""
    if (declared.kind or "").lower() != "httptrigger" or declared.http_type in WEB_APPS:
        return None
    route = declared.setting("route") or declared.name
    if route is None:
        return None
    # https://learn.microsoft.com/azure/azure-functions/functions-host-json#http
    http = (host_file(directory).get("extensions") or {}).get("http") or {}
    prefix = http.get("routePrefix", "api")
    return "/" + "/".join(part.strip("/") for part in (str(prefix), route) if part.strip("/"))


def routed_request(invocation: Invocation, request: Any, *, is_named: bool) -> RoutedRequest:
    """The request of an application, whose framework reports the route and what it catches.

    Args:
        is_named: the user has chosen the name of the trace.
    """
    frameworks.connect()
    sent = HttpRequest(str(request.method).upper(), path_of(request), None, {})
    routed = RoutedRequest(invocation, sent, None if is_named else default_name)
    routed.enter()
    return routed
