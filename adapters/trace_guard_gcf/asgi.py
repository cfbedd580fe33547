"""The middleware for ASGI applications: FastAPI, Starlette, and functions of ``functions_framework.aio``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from trace_guard import FlushPolicy, Guard
from trace_guard.contain import contain, contained
from trace_guard.http import frameworks
from trace_guard.http.exchange import Exchange, is_client_disconnect
from trace_guard.http.exclude import Exclude
from trace_guard.http.frameworks.starlette import route_of
from trace_guard.http.passing import pairs_of, shared, status_in, text_of
from trace_guard.http.requests import NameOf
from trace_guard.settings import Capture

from .applications import check_asgi
from .guarding import Guarding
from .shutdown import finish

__all__ = ["AsyncGuardMiddleware"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[Any]]
Application = Callable[[Scope, Receive, Send], Awaitable[Any]]

# How long a body that is complete waits for the end of the application. Most end at once.
_HOLD_SECONDS = 0.2


class AsyncGuardMiddleware:
    """Guards each request of an ASGI application: one trace, closed and delivered before the response is complete::

        app.add_middleware(AsyncGuardMiddleware, project="support-bot")

    For other applications, use ``app = AsyncGuardMiddleware(app)``. The trace includes a streamed body to its end, but
    not work after the response such as Starlette's background tasks. A body with a Content-Length that is complete
    before the application ends is sent 0.2 seconds later at the latest. Websockets are not traced, as a connection may
    stay open for hours. Guard the handling of single messages instead.

    Args:
        app: the application.
        keywords: as for :class:`.middleware.GuardMiddleware`. The default name has the route in Starlette's form, such
            as ``GET /orders/{id}``.

    Raises:
        TypeError: the application is not of this kind; the message says what to do.
        SettingsError: a keyword's value is not accepted. A bad variable in the environment does not raise, as that
            would take the service down: it is reported, and requests go unguarded.
    """

    def __init__(
        self,
        app: Application,
        *,
        guard: Guard | None = None,
        project: str | None = None,
        project_id: str | None = None,
        name: str | NameOf | None = None,
        exclude: Exclude = (),
        capture_input: Capture | None = None,
        capture_output: Capture | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        flush: FlushPolicy | str | None = None,
    ) -> None:
        check_asgi(app)
        self._app = app
        self._guarding = Guarding(
            guard=guard, project=project, project_id=project_id, name=name, exclude=exclude,
            capture_input=capture_input, capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        kind = scope.get("type")
        if kind == "lifespan":
            return await self._app(scope, receive, _finish_at_shutdown(send))
        exchange = None
        if kind == "http":
            exchange = contained("begin a request", lambda: self._begin(scope), None)
        if exchange is None:
            return await self._app(scope, receive, send)
        wire = _Wire(exchange, scope, receive, send)
        try:
            result = await self._app(scope, wire.receive, wire.send)
        except BaseException as error:
            await wire.end(error)
            raise
        await wire.end()
        return result

    def _begin(self, scope: Scope) -> Exchange | None:
        frameworks.connect()

        def headers() -> dict[str, str]:
            ours, theirs = shared(scope.get("headers"))
            if ours is not theirs:
                scope["headers"] = theirs
            return dict(pairs_of(ours))

        return self._guarding.begin(
            text_of(scope.get("method")) or "GET", text_of(scope.get("path")) or "/",
            text_of(scope.get("query_string")), headers,
        )


class _Wire:
    """The messages of a request and its response: https://asgi.readthedocs.io/en/latest/specs/www.html."""

    def __init__(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        self._exchange = exchange
        self._scope = scope
        self._receive = receive
        self._send = send
        self._held: list[Message] = []
        self._releasing: Any = None
        self._is_released = False
        self._has_trailers = False
        self._is_over = False
        self._has_left = False

    async def receive(self) -> Message:
        message = await self._receive()
        kind = message.get("type")
        if kind == "http.request":
            copy = self._exchange.request_copy
            if copy is not None:
                copy.take(message.get("body") or b"", is_last=not message.get("more_body"))
        elif kind == "http.disconnect" and not self._is_over:
            self._has_left = True
        return message

    async def send(self, message: Message) -> Any:
        if not self._is_over and self._exchange.is_open:
            is_last = contained("follow a response", lambda: self._follow(message), False)
            if is_last:
                self._is_over = True
                if self._has_left:
                    self._exchange.cut_off()  # the application has been told, and answers nobody
                await self._exchange.aclose()
            elif self._must_hold(message):
                self._held.append(message)
                if self._releasing is None:
                    self._release_later()
                return None
        await self._send_held()
        return await self._send(message)

    def _follow(self, message: Message) -> bool:
        """Record a message of the response. Returns True if it is the last."""
        kind = message.get("type")
        if kind == "http.response.start":
            self._exchange.routed(route_of(self._scope, self._exchange.path))
            ours, theirs = shared(message.get("headers"))
            if ours is not theirs:
                message["headers"] = theirs
            self._exchange.responds(status_in(message.get("status")), pairs_of(ours))
            self._has_trailers = bool(message.get("trailers"))
            # The server discards the body of such a response, which may never end.
            return self._exchange.framing.is_bodyless
        if kind == "http.response.body":
            content = message.get("body") or b""
            self._exchange.sends(content)
            self._exchange.framing.completes(content)
            return not message.get("more_body") and not self._has_trailers
        if kind == "http.response.trailers":
            return not message.get("more_trailers")
        if kind == "http.response.pathsend":
            self._exchange.sends_file()
            return True
        return False

    def _must_hold(self, message: Message) -> bool:
        """True if this message completes the response for the client although the application sends more."""
        is_of_response = message.get("type") in ("http.response.start", "http.response.body")
        return not self._is_released and (
            bool(self._held) or (is_of_response and self._exchange.framing.is_complete)
        )

    def _release_later(self) -> None:
        """Send the messages that are held back, if the application goes on for long."""
        import asyncio

        def release() -> None:
            self._is_released = True
            self._releasing = loop.create_task(self._send_all())

        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # another event loop, without this timer
        self._releasing = loop.call_later(_HOLD_SECONDS, release)

    async def end(self, error: BaseException | None = None) -> None:
        """Close the exchange after the application has returned or raised."""
        if self._exchange.is_open:
            self._exchange.routed(route_of(self._scope, self._exchange.path))
            if self._has_left:
                cut_off = self._exchange.cut_off()
                # The disconnect explains these errors of the application.
                error = cut_off if error is None or is_client_disconnect(error) or _is_cancelled(error) else error
            await self._exchange.aclose(error)
        await self._send_held()

    async def _send_held(self) -> None:
        releasing, self._releasing = self._releasing, None
        if self._is_released and releasing is not None:
            await releasing
        elif releasing is not None:
            releasing.cancel()
        await self._send_all()

    async def _send_all(self) -> None:
        held, self._held = self._held, []
        for message in held:
            await self._send(message)


def _finish_at_shutdown(send: Send) -> Send:
    """A ``send`` that delivers the remaining rows when the server has ended all requests."""

    async def forward(message: Message) -> Any:
        if text_of(message.get("type")).startswith("lifespan.shutdown."):
            await finish()
        return await send(message)

    return forward


def _is_cancelled(error: BaseException) -> bool:
    with contain("detect a cancellation"):
        import asyncio

        return isinstance(error, (asyncio.CancelledError, GeneratorExit))
    return False
