"""An ASGI application for any server. Traces of paths below ``/later/`` are delivered after the response."""

from __future__ import annotations

from typing import Any

import braintrust

from trace_guard_gcf import AsyncGuardMiddleware


async def answer(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"].startswith("/fails"):
        raise ValueError("no such order")
    with braintrust.start_span(name="step"):
        status = 204 if scope["path"] == "/nothing" else 200
        await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": b"" if status == 204 else b"x"})


application = AsyncGuardMiddleware(
    AsyncGuardMiddleware(answer, flush="after-response"), exclude=["/later/*"], flush="before-response"
)
