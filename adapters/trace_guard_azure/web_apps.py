"""The routes of functions and web applications, and the exceptions that Flask catches.

An ``AsgiFunctionApp`` or ``WsgiFunctionApp`` has a single function for all paths, so the function's name does not help
to tell traces apart. They are named after the route that the application finds.
"""

from __future__ import annotations

import sys
import weakref
from typing import Any

from trace_guard import Invocation
from trace_guard.contain import contain
from trace_guard.invocation.invocation import current_invocation

from .declaration import Declaration
from .timeouts import host_file

__all__ = ["WEB_APPS", "caught_in", "route_of", "watch_routes"]

WEB_APPS = ("asgi", "wsgi")
"""Types of functions that pass all requests to an application."""

_MARK = "_watched_by_trace_guard"
_is_connected = False
_caught: weakref.WeakKeyDictionary[Invocation, BaseException] = weakref.WeakKeyDictionary()


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


def watch_routes(app: Any) -> None:
    """Record the routes that the application of an ``AsgiFunctionApp`` or ``WsgiFunctionApp`` finds."""
    middleware: Any = getattr(app, "middleware", None)
    if callable(getattr(middleware, "handle_async", None)) and not hasattr(middleware._app, _MARK):
        middleware._app = _Asgi(middleware._app)
    _listen_to_flask()


class _Asgi:
    """An application whose routes are read from the scope, where Starlette and FastAPI put them."""

    def __init__(self, app: Any) -> None:
        self._app = app
        setattr(self, _MARK, True)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self._app(scope, receive, send)
        finally:
            with contain("read a request's route"):
                if scope.get("type") == "http":
                    _routed(scope.get("method"), getattr(scope.get("route"), "path", None))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._app, name)


def _listen_to_flask() -> None:
    """Connect to Flask's signals: https://flask.palletsprojects.com/en/stable/signals/#core-signals"""
    global _is_connected
    flask = sys.modules.get("flask")
    if not _is_connected and flask is not None:
        _is_connected = True
        flask.request_started.connect(_started, weak=False)
        flask.got_request_exception.connect(_has_caught, weak=False)


def _started(sender: Any, **_: Any) -> None:
    with contain("read a request's route"):
        request = sys.modules["flask"].request
        _routed(request.method, getattr(request.url_rule, "rule", None))


def _has_caught(sender: Any, exception: BaseException, **_: Any) -> None:
    invocation = current_invocation()
    if invocation is not None:
        _caught[invocation] = exception


def caught_in(invocation: Invocation) -> BaseException | None:
    """The exception that Flask turned into an error page. The adapter itself only sees an exception with the page's
    text."""
    return _caught.pop(invocation, None)


def _routed(method: Any, route: Any) -> None:
    invocation = current_invocation()
    if invocation is None or not isinstance(route, str) or not isinstance(method, str):
        return
    if invocation.state.platform.get("faas.trigger") == "http" and "http.route" not in invocation.state.platform:
        invocation.note({"http.route": route})
        if invocation.name.startswith(f"{method} /"):  # keep a name that the user has set
            invocation.state.name = f"{method} {route}"
            invocation.span.set_attributes(name=invocation.name)
