"""A FastAPI service for a real server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import braintrust
from fastapi import FastAPI, HTTPException, Request, Response, WebSocket
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

from trace_guard_gcf import guard_handler
from trace_guard_gcf.asgi import AsyncGuardMiddleware

app = FastAPI()
_gate = asyncio.Event()


class Busy(Exception):
    pass


@app.exception_handler(Busy)
async def is_busy(request: Request, error: Busy) -> Response:
    return PlainTextResponse("busy", 503)


@app.get("/orders/{order}")
async def order_of(order: str) -> Any:
    with braintrust.start_span(name=f"look up {order}"):
        await asyncio.sleep(0)
        return {"order": order}


@app.get("/threads/{order}")
def in_a_thread(order: str) -> Any:
    with braintrust.start_span(name=f"look up {order}"):
        return {"order": order}


@app.get("/fails")
async def fails() -> Any:
    with braintrust.start_span(name="step"):
        raise ValueError("no such order")


@app.get("/answers/{status}")
async def answers(status: int, how: str = "") -> Response:
    if how == "busy":
        raise Busy
    if how:
        raise HTTPException(status)
    return Response(b"" if status == 204 else b"status", status)


@app.get("/streams")
async def streams(
    parts: int = 3, length: bool = False, fails: int = -1, pause: float = 0.0, plain: bool = False, gate: bool = False
) -> Response:
    _gate.clear()

    async def body() -> AsyncIterator[bytes]:
        with braintrust.start_span(name="model"):
            for number in range(parts):
                if number == fails:
                    raise ValueError("the model is gone")
                with braintrust.start_span(name=f"token {number}"):
                    pass
                yield f"token {number:03}\n".encode()
                if gate:
                    await asyncio.wait_for(_gate.wait(), 20)
                await asyncio.sleep(pause)
        with braintrust.start_span(name="after the last chunk"):
            pass

    def in_threads() -> Iterator[bytes]:
        for number in range(parts):
            with braintrust.start_span(name=f"token {number}"):
                pass
            yield f"token {number:03}\n".encode()

    return StreamingResponse(
        in_threads() if plain else body(), headers={"Content-Length": str(parts * 10)} if length else None
    )


@app.get("/goes-on")
async def goes_on() -> str:
    _gate.set()
    return "on"


@app.get("/sleeps/{seconds}")
async def sleeps(seconds: float) -> str:
    with braintrust.start_span(name="outer"), braintrust.start_span(name="inner"):
        await asyncio.sleep(seconds)
    return "woken"


@app.get("/sleeps-in-a-thread/{seconds}")
def sleeps_in_a_thread(seconds: float) -> str:
    with braintrust.start_span(name="outer"), braintrust.start_span(name="inner"):
        time.sleep(seconds)
    return "woken"


@app.get("/file")
async def file() -> FileResponse:
    return FileResponse(__file__)


@app.get("/decorated")
@guard_handler(name="decorated")
async def decorated() -> str:
    with braintrust.start_span(name="within"):
        return "done"


@app.get("/healthz")
async def healthz() -> str:
    return "well"


@app.websocket("/socket")
async def socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


app.add_middleware(AsyncGuardMiddleware, exclude=["/healthz", "/goes-on"], tags=["asgi"])
