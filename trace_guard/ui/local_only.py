"""Keeps other sites out of the local page, and scripts out of what it shows."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["LocalOnly"]

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With "no-referrer", browsers would send no origin with the page's own forms.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_SAFE = ("GET", "HEAD")


class LocalOnly:
    """ASGI middleware that refuses requests of other sites with 403, and sets the headers of the page's policy.

    A site whose name resolves to this machine (DNS rebinding) sends its own name as ``Host``. A form or script of
    another site sends its own ``Origin``.

    Args:
        port: the port of the page's own address.
    """

    def __init__(self, app: ASGIApp, port: int) -> None:
        self._app = app
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
        if port == 80:
            self._hosts |= {host.rpartition(":")[0] for host in self._hosts}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._app if self._is_local(scope) else PlainTextResponse(
            "This page answers only requests to its own address, from its own pages.\n", 403
        )
        await answer(scope, receive, send_with_headers)

    def _is_local(self, scope: Scope) -> bool:
        headers = Headers(scope=scope)
        hosts, origins = headers.getlist("host"), headers.getlist("origin")
        if len(hosts) != 1 or hosts[0].lower() not in self._hosts:
            return False
        # Browsers send the origin with every request that changes something.
        if scope["method"] not in _SAFE and len(origins) != 1:
            return False
        return all(origin.lower() == f"http://{hosts[0].lower()}" for origin in origins)
