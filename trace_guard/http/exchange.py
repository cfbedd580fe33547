"""One request and its response under guard, whatever protocol brought them."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, TypeVar

from ..contain import contain
from ..invocation.invocation import Invocation, current_invocation
from .answers import status_of_error
from .closing import close
from .framing import Framing
from .requests import HttpRequest, NameOf

__all__ = ["Exchange", "is_client_disconnect"]

T = TypeVar("T")


class Exchange:
    """Ends an invocation with the response to its request.

    Args:
        invocation: an opened one.
        framing: where that response ends on the wire.
        request: where it is to be named after its route.
        name: makes the name.
    """

    def __init__(
        self,
        invocation: Invocation,
        framing: Framing,
        *,
        request: HttpRequest | None = None,
        name: NameOf | None = None,
    ) -> None:
        self.invocation = invocation
        self.framing = framing
        self._request = request
        self._name = name
        self._given = invocation.name
        self._status: int | None = None
        self._error: BaseException | None = None
        self._context: contextvars.Context | None = None

    @property
    def is_open(self) -> bool:
        return self.invocation.is_live

    def run(self, step: Callable[[], T]) -> T:
        """A step of the body, within the invocation.

        Here, where the code that made the body has been too: frameworks keep tokens of context variables from there.
        Only where somebody else's context is iterated in, as those of executors, in one kept for that.
        """
        if self.is_elsewhere:
            return self.context.run(step)
        try:
            return step()
        finally:
            if not self.is_open:
                self._tidy_up()

    def _tidy_up(self) -> None:
        """A span that outlives the root makes the root current again when it ends, for the next request too that is
        answered in this thread."""
        with contain("leave a span that has ended"):
            import braintrust  # an invocation was live, so that it has been imported

            root, current = self.invocation.span, braintrust.current_span()
            if getattr(current, "root_span_id", None) == root.root_span_id:
                root.unset_current()

    @property
    def is_elsewhere(self) -> bool:
        """True if the invocation is under way, and not here."""
        return self.is_open and current_invocation() is not self.invocation

    def leave(self) -> None:
        """Give back the context that this code runs in: the next request may be answered in it."""
        if current_invocation() is self.invocation:
            with contain("leave an invocation"):
                self.invocation.span.unset_current()

    @property
    def context(self) -> contextvars.Context:
        """One in which the invocation is current."""
        if self._context is None:
            found = self.invocation.state.context
            self._context = found.copy() if found is not None else contextvars.copy_context()
        return self._context

    def routed(self, route: object) -> None:
        """The framework has found the route."""
        request = self._request
        if request is None or not isinstance(route, str) or not route or route == request.route:
            return
        with contain("name a request after its route"):
            self._request = replace(request, route=route)
            self.invocation.note({"http.route": route})
            name = self._name(self._request) if self._name is not None else None
            # A decorator on the function below may have said better what it is.
            if name and self.invocation.name == self._given:
                self.invocation.state.name = self._given = name
                self.invocation.span.set_attributes(name=name)

    def responds(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        """The response begins. With a status from 500 on, an exception that is being handled is its reason."""
        with contain("read the head of a response"):
            self._status = status
            self.framing.begin(status, headers)
            self.caught(sys.exc_info()[1])

    def caught(self, error: BaseException | None) -> None:
        """The framework has caught an exception, which counts if the response says that the request failed."""
        self._error = error or self._error

    def cut_off(self, error: BaseException | None = None) -> BaseException | None:
        """The response was ended before its end, as the client went away, which is no error of the code's; or as the
        process ends, and the server with it: then what closed it as terminated has said how it ended.

        Args:
            error: what it was ended by, if it was.

        Returns:
            What to close the invocation with.
        """
        if self.invocation.outcome is not None:
            return error or GeneratorExit()
        self.invocation.note({"client_disconnected": True})
        return None

    def close(self, error: BaseException | None = None) -> None:
        """Close the invocation, and deliver; only the first call does anything."""
        if self.is_open:
            close(self.invocation, self._reason(error))

    async def aclose(self, error: BaseException | None = None) -> None:
        """The same without holding up the event loop."""
        if self.is_open:
            await self.invocation.aclose(self._reason(error))

    def _reason(self, error: BaseException | None) -> BaseException | None:
        """The exception that it ended with, None if it ended without, or with one that is an answer."""
        with contain("tell how a request ended"):
            told = status_of_error(error) if error is not None else None
            if told is not None and told < 500:
                self._status, error = self._status or told, None
            if self._status is None and isinstance(error, Exception):
                self._status = 500  # the server's answer for want of another
            if self._status is not None:
                self.invocation.note({"http.response.status_code": self._status})
                if error is None and self._status >= 500:
                    error = self._error
                    self.invocation.fail(f"HTTP {self._status}")
        return error


def is_client_disconnect(error: Any) -> bool:
    """True for what servers and frameworks raise when a client has gone away."""
    return isinstance(error, OSError) or type(error).__name__ == "ClientDisconnect"
