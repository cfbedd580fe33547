"""The middleware for ASGI applications: FastAPI, Starlette, and functions of ``functions_framework.aio``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from typing import Any

from trace_guard import FlushPolicy, Guard
from trace_guard.contain import contain, contained
from trace_guard.http.exchange import Exchange, is_client_disconnect
from trace_guard.http.requests import NameOf

from .guarding import Guarding
from .shutdown import finish

__all__ = ["AsyncGuardMiddleware"]

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class AsyncGuardMiddleware:
    """Guards each request of an ASGI application: one trace, closed and delivered before the response is complete::

        app.add_middleware(AsyncGuardMiddleware, project="support-bot")

    For other applications, use ``app = AsyncGuardMiddleware(app)``. The trace includes a streamed body to its end, but
    not work after the response such as Starlette's background tasks. Websockets are not traced, as a connection may
    stay open for hours. Guard the handling of single messages instead.

    Args:
        app: the application.
        keywords: as for :class:`.middleware.GuardMiddleware`. The default name has the route in Starlette's form, such
            as ``GET /orders/{id}``.

    Raises:
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
        exclude: Sequence[str] = (),
        capture_input: bool | None = None,
        tags: Sequence[str] | None = None,
        metadata: Mapping[str, Any] | None = None,
        flush: FlushPolicy | str | None = None,
    ) -> None:
        self._app = app
        self._guarding = Guarding(
            guard=guard, project=project, project_id=project_id, name=name, exclude=exclude,
            capture_input=capture_input, tags=tags, metadata=metadata, flush=flush,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, _finish_at_shutdown(send))
            return
        exchange = None
        if scope["type"] == "http":
            exchange = contained("begin a request", lambda: self._begin(scope), None)
        if exchange is None:
            await self._app(scope, receive, send)
            return
        wire = _Wire(exchange, scope, receive, send)
        try:
            await self._app(scope, wire.receive, wire.send)
        except BaseException as error:
            await wire.end(error)
            raise
        await wire.end()

    def _begin(self, scope: Scope) -> Exchange | None:
        return self._guarding.begin(
            scope.get("method", "GET"), scope.get("path") or "/",
            bytes(scope.get("query_string", b"")).decode("latin-1"), lambda: _text(scope.get("headers", ())),
        )


class _Wire:
    """The messages of a request and its response: https://asgi.readthedocs.io/en/latest/specs/www.html."""

    def __init__(self, exchange: Exchange, scope: Scope, receive: Receive, send: Send) -> None:
        self._exchange = exchange
        self._scope = scope
        self._receive = receive
        self._send = send
        self._held: list[Message] = []
        self._has_trailers = False
        self._is_over = False
        self._has_left = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.disconnect" and not self._is_over:
            self._has_left = True
        return message

    async def send(self, message: Message) -> None:
        if self._is_over or not self._exchange.is_open:
            await self._send(message)
            return
        is_last = contained("follow a response", lambda: self._follow(message), False)
        if is_last:
            self._is_over = True
            await self._exchange.aclose()
            await self._send_held()
        elif self._must_hold(message):
            self._held.append(message)
            return
        await self._send(message)

    def _follow(self, message: Message) -> bool:
        """Record a message of the response. Returns True if it is the last."""
        kind = message["type"]
        if kind == "http.response.start":
            self._exchange.routed(_route_of(self._scope))
            self._exchange.responds(message["status"], _text(message.get("headers", ())).items())
            self._has_trailers = bool(message.get("trailers"))
            # The server discards the body of such a response, which may never end.
            return self._exchange.framing.is_bodyless
        if kind == "http.response.body":
            self._exchange.framing.completes(message.get("body", b""))
            return not message.get("more_body") and not self._has_trailers
        if kind == "http.response.trailers":
            return not message.get("more_trailers")
        return bool(kind == "http.response.pathsend")

    def _must_hold(self, message: Message) -> bool:
        """True if this message completes the response for the client although the application sends more."""
        is_of_response = message["type"] in ("http.response.start", "http.response.body")
        return bool(self._held) or (is_of_response and self._exchange.framing.is_complete)

    async def end(self, error: BaseException | None = None) -> None:
        """Close the exchange after the application has returned or raised."""
        if self._exchange.is_open:
            self._exchange.routed(_route_of(self._scope))
            if self._has_left:
                cut_off = self._exchange.cut_off()
                # The disconnect explains these errors of the application.
                error = cut_off if error is None or is_client_disconnect(error) or _is_cancelled(error) else error
            await self._exchange.aclose(error)
        await self._send_held()

    async def _send_held(self) -> None:
        held, self._held = self._held, []
        for message in held:
            await self._send(message)


def _finish_at_shutdown(send: Send) -> Send:
    """A ``send`` that delivers the remaining rows when the server has ended all requests."""

    async def forward(message: Message) -> None:
        if message["type"].startswith("lifespan.shutdown."):
            await finish()
        await send(message)

    return forward


def _text(headers: Any) -> dict[str, str]:
    return {bytes(name).decode("latin-1").lower(): bytes(value).decode("latin-1") for name, value in headers}


def _route_of(scope: Scope) -> str | None:
    """The route's pattern, which Starlette and FastAPI put into the scope."""
    return getattr(scope.get("route"), "path", None)


def _is_cancelled(error: BaseException) -> bool:
    with contain("detect a cancellation"):
        import asyncio

        return isinstance(error, (asyncio.CancelledError, GeneratorExit))
    return False
