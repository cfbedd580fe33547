"""A call of a function that may answer an HTTP request, on any platform."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from ..contain import contain
from ..invocation.invocation import Invocation
from ..invocation.state import GuardLike
from . import answers, content
from .closing import close
from .streaming import guard_async_result, guard_result

__all__ = ["HttpCall"]


class HttpCall(ABC):
    """Runs a function in its invocation and closes the invocation with the result or at the end of a streamed body.

    Subclasses open the invocation and read the platform's requests and results.

    Attributes:
        invocation: the invocation that the function runs in.
        guard: of the function.
        owns: False if the middleware has opened the invocation and will close it.
    """

    guard: GuardLike
    invocation: Invocation
    owns = True

    @property
    @abstractmethod
    def request(self) -> Any:
        """The request to read and log as the input; None to log no request."""

    @abstractmethod
    def input_of(self, request: Any, body: bytes | None) -> Any:
        """The input of the invocation for a request."""

    @abstractmethod
    def note_result(self, result: Any) -> None:
        """Record the status and output from a result. Never raises."""

    @abstractmethod
    def reason(self, error: BaseException) -> BaseException | None:
        """The exception to close the invocation with; None if the exception is an answer."""

    @abstractmethod
    def may_stream(self, result: Any) -> bool:
        """Whether the platform reads a result of this kind as a stream."""

    def run(self, function: Callable[..., Any], args: tuple[Any, ...], keywords: Mapping[str, Any]) -> Any:
        """Call the function. Returns its result, or a copy with a guarded body."""
        try:
            self._read_request()
            result = function(*args, **keywords)
            self.note_result(result)
        except BaseException as error:
            if self.owns:
                close(self.invocation, self.reason(error))
            raise
        if not self.owns:
            return result
        with contain("guard a result"):
            if self.may_stream(result) and answers.streams(result):
                return guard_result(result, self.invocation)
        close(self.invocation)
        return result

    async def run_async(
        self, function: Callable[..., Awaitable[Any]], args: tuple[Any, ...], keywords: Mapping[str, Any]
    ) -> Any:
        """:meth:`run` for a coroutine function."""
        try:
            await self._read_request_async()
            result = await function(*args, **keywords)
            self.note_result(result)
        except BaseException as error:
            if self.owns:
                await self.invocation.aclose(self.reason(error))
            raise
        if not self.owns:
            return result
        with contain("guard a result"):
            if self.may_stream(result) and answers.streams(result):
                return await guard_async_result(result, self.invocation)
        await self.invocation.aclose()
        return result

    def refuse(self, error: BaseException) -> None:
        """Close with an exception that kept the function from being called."""
        self._read_request()
        close(self.invocation, self.reason(error))

    async def refuse_async(self, error: BaseException) -> None:
        """:meth:`refuse` without blocking the event loop."""
        await self._read_request_async()
        await self.invocation.aclose(self.reason(error))

    def _read_request(self) -> None:
        # The root is open before, because a body may arrive slowly.
        with contain("read a request"):
            request = self.request
            if request is not None:
                self._log_input(request, content.read(request, self._most_bytes))

    async def _read_request_async(self) -> None:
        with contain("read a request"):
            request = self.request
            if request is not None:
                self._log_input(request, await content.read_async(request, self._most_bytes))

    def _log_input(self, request: Any, body: bytes | None) -> None:
        """Log a request as the input, or what a function of the user's returns for it."""
        is_chosen = callable(self.guard.settings.capture_input)
        self.invocation.log_input(request if is_chosen else self.input_of(request, body), self.guard)

    @property
    def _most_bytes(self) -> int:
        return self.guard.settings.max_payload_bytes
