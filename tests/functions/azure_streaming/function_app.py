"""Functions with the FastAPI extension, whose responses the worker streams itself."""

import asyncio

import azure.functions as func
import braintrust
from azurefunctions.extensions.http.fastapi import JSONResponse, Request, Response, StreamingResponse

from trace_guard_azure import guard_handler

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


async def pieces(last):
    for number in range(3):
        with braintrust.start_span(f"piece {number}"):
            await asyncio.sleep(0)
        yield f"piece {number}\n"
    if last == "raise":
        raise LookupError("no more pieces")
    if last == "wait":
        await asyncio.sleep(60)


@app.route(route="stream")
@guard_handler
async def stream(req: Request) -> StreamingResponse:
    return StreamingResponse(pieces(req.query_params.get("last")), media_type="text/plain")


@app.route(route="stream-sync")
@guard_handler
def stream_sync(req: Request) -> StreamingResponse:
    return StreamingResponse((f"piece {number}\n" for number in range(3)), media_type="text/plain")


@app.route(route="json", methods=["POST"])
@guard_handler
async def as_json(req: Request) -> JSONResponse:
    return JSONResponse({"asked": await req.json()}, status_code=int(req.query_params.get("code", 200)))


@app.route(route="fails")
@guard_handler
async def fails(req: Request) -> Response:
    raise LookupError("no such order")
