"""One guarded request and its response, over any protocol."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from ..contain import contain
from ..invocation.invocation import NOTHING, Invocation, current_invocation
from .answers import status_of_error
from .captures import RequestCopy, ResponseCopy
from .closing import close
from .framing import Framing
from .requests import HttpRequest, NameOf
from .routing import RoutedRequest

__all__ = ["Exchange", "is_client_disconnect"]

T = TypeVar("T")


class Exchange(RoutedRequest):
    """Closes an invocation with the response to its request.

    Args:
        invocation: an open invocation.
        framing: tells where the response ends on the wire.
        request: the request, if the root span is named after its route.
        name: returns the name of the root span.

    Attributes:
        request_copy: copies the body of the request; None if it is not captured.
        captures_response: whether the response is captured, unless the output has been set.
    """

    def __init__(
        self,
        invocation: Invocation,
        framing: Framing,
        *,
        request: HttpRequest | None = None,
        name: NameOf | None = None,
    ) -> None:
        super().__init__(invocation, request, name)
        self.framing = framing
        self._status: int | None = None
        self._context: contextvars.Context | None = None
        self.request_copy: RequestCopy | None = None
        self.captures_response = bool(invocation.guard.settings.capture_output)
        self._response: ResponseCopy | None = None

    def open(self) -> Exchange:
        """Open the invocation, and make the exchange current in this context."""
        self.enter()
        self.invocation.state.is_request = True
        self.invocation.open()
        return self

    def run(self, step: Callable[[], T]) -> T:
        """Run a step of the body within the invocation.

        The step runs in the current context if the invocation is current in it, because frameworks hold tokens of its
        context variables. In a foreign context, such as that of an executor, it runs in a copy of the invocation's.
        """
        if self.is_elsewhere:
            return self.context.run(step)
        try:
            return step()
        finally:
            if not self.is_open:
                self._tidy_up()

    def _tidy_up(self) -> None:
        """Make an ended root not current. A span that outlives the root makes it current again when it ends, and this
        thread may answer the next request."""
        with contain("leave a span that has ended"):
            import braintrust  # already imported by the invocation

            root, current = self.invocation.span, braintrust.current_span()
            if getattr(current, "root_span_id", None) == root.root_span_id:
                root.unset_current()

    @property
    def is_elsewhere(self) -> bool:
        """True if the invocation is live but not current in this context."""
        return self.is_open and current_invocation() is not self.invocation

    def leave(self) -> None:
        """Make the root not current in this context, which may answer the next request."""
        if current_invocation() is self.invocation:
            with contain("leave an invocation"):
                self.invocation.span.unset_current()

    @property
    def context(self) -> contextvars.Context:
        """A context in which the invocation is current."""
        if self._context is None:
            context = self.invocation.state.context
            self._context = context.copy() if context is not None else contextvars.copy_context()
        return self._context

    def responds(self, status: int | None, headers: Iterable[tuple[str, str]]) -> None:
        """Record the start of the response. An exception that is being handled now explains a status of 500 or more."""
        with contain("read the head of a response"):
            headers = tuple(headers)
            self._status = status
            self.framing.begin(status or 200, headers)
            self.copy_response(status, headers)
            self.caught(sys.exc_info()[1])

    def copy_response(
        self, status: int | None, headers: Iterable[tuple[str, str]], *, shows_status: bool = True
    ) -> None:
        """Copy the response that begins now. A later call replaces it.

        Args:
            headers: with their names in lower case.
            shows_status: as for :class:`.captures.ResponseCopy`.
        """
        if self.captures_response and self.is_open:
            invocation = self.invocation
            invocation.read_result = ResponseCopy.read
            self._response = ResponseCopy(
                status, dict(headers), invocation.guard.settings.max_payload_bytes, shows_status=shows_status
            )

    def drop_request(self) -> None:
        """Log no body of the request."""
        if self.request_copy is not None:
            self.request_copy.drop()
            self.request_copy = None

    def sends(self, chunk: Any) -> None:
        """Copy a chunk of the response. Never raises."""
        response = self._response
        if response is not None:
            with contain("copy a chunk of a response"):
                response.add(chunk)

    def sends_file(self) -> None:
        """The response is a file, which the server reads."""
        if self._response is not None:
            self._response.is_file()

    def cut_off(self, error: BaseException | None = None) -> BaseException | None:
        """Record a response that ended early.

        A client disconnect is not an error of the code and sets ``client_disconnected``. If the process ends, the
        forced close has already given the outcome.

        Args:
            error: the exception that ended the response, if any.

        Returns:
            The error to close the invocation with.
        """
        if self.invocation.outcome is not None:
            return error or GeneratorExit()
        self.invocation.note({"client_disconnected": True})
        return None

    def close(self, error: BaseException | None = None) -> None:
        """Close the invocation and deliver. Only the first call has an effect."""
        if self.is_open:
            close(self.invocation, self._reason(error))

    async def aclose(self, error: BaseException | None = None) -> None:
        """:meth:`close` without blocking the event loop."""
        if self.is_open:
            await self.invocation.aclose(self._reason(error))

    def _reason(self, error: BaseException | None) -> BaseException | None:
        """The exception that the request failed with; None for a success or an answer with a status below 500. The
        input and the output are complete."""
        if self.request_copy is not None:
            self.request_copy.log()
        with contain("determine how a request ended"):
            status = status_of_error(error) if error is not None else None
            if status is not None and status < 500:
                self._status, error = self._status or status, None
            if self._status is None and isinstance(error, Exception):
                self._status = 500  # the server answers with this
            if self._status is not None:
                self.invocation.note({"http.response.status_code": self._status})
                if error is None and self._status >= 500:
                    error = self._error
                    self.invocation.fail(f"HTTP {self._status}")
        state = self.invocation.state
        # The page for an exception says less than the error. A stream that broke keeps what was sent.
        is_page = error is not None and (self._status or 0) >= 500
        if self._response is not None and self.captures_response and state.output is NOTHING and not is_page:
            state.output = self._response
        return error


def is_client_disconnect(error: Any) -> bool:
    """True for exceptions that servers and frameworks raise after a client disconnect."""
    return isinstance(error, OSError) or type(error).__name__ == "ClientDisconnect"
