"""The route and the exception of the request that an invocation answers, as its framework reports them."""

from __future__ import annotations

import contextvars
from dataclasses import replace

from ..contain import contain
from ..invocation.invocation import Invocation
from .requests import HttpRequest, NameOf, prefix_of

__all__ = ["RoutedRequest"]

_current: contextvars.ContextVar[RoutedRequest | None] = contextvars.ContextVar("trace_guard_request", default=None)


class RoutedRequest:
    """A request whose root span is named after the route that the framework matches.

    Args:
        invocation: that answers the request.
        request: None if the root span is not named after a route.
        name: returns the name of the root span; None to keep its name.
    """

    def __init__(self, invocation: Invocation, request: HttpRequest | None = None, name: NameOf | None = None) -> None:
        self.invocation = invocation
        self._request = request
        self._name = name
        self._given = invocation.name
        self._error: BaseException | None = None

    @classmethod
    def current(cls) -> RoutedRequest | None:
        """The open request of this context."""
        request = _current.get()
        return request if request is not None and request.is_open else None

    def enter(self) -> None:
        """Make the request current in this context."""
        _current.set(self)

    @property
    def is_open(self) -> bool:
        return self.invocation.is_live

    @property
    def path(self) -> str:
        """The path of the request; empty if it is not known."""
        return self._request.path if self._request is not None else ""

    @property
    def error(self) -> BaseException | None:
        """The exception that the framework caught last."""
        return self._error

    def routed(self, pattern: object, prefix: object = None) -> None:
        """Record the route that the framework has matched, and rename the root span.

        Args:
            pattern: of the route, within its application; None without a route.
            prefix: the path at which the application is mounted, see :func:`.requests.prefix_of`.
        """
        request = self._request
        if request is None or not isinstance(pattern, str):
            return
        with contain("name a request after its route"):
            route = prefix_of(request.path, prefix) + pattern
            if not route or route == request.route:
                return
            self._request = replace(request, route=route)
            metadata = {"http.route": route}
            name = self._name(self._request) if self._name is not None else None
            # Keep a name that a decorator on the function has set since.
            if name and self.invocation.name == self._given:
                self._given = name
                self.invocation.rename(name, metadata)
            else:
                self.invocation.note(metadata)

    def caught(self, error: BaseException | None) -> None:
        """Record an exception that the framework caught. It is logged if the response has a status of 500 or more."""
        self._error = error or self._error
