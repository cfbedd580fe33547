"""An ASGI application, which is a single function for the host."""

import azure.functions as func
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from trace_guard_azure import guard_app


async def answer(request):
    return PlainTextResponse(f"order {request.path_params['order']}", status_code=201)


async def unavailable(request):
    raise HTTPException(503)


async def fails(request):
    raise LookupError("no such order")


web = Starlette(routes=[
    Route("/api/orders/{order}", answer, methods=["GET", "POST"]), Route("/api/unavailable", unavailable),
    Route("/api/fails", fails),
])
app = func.AsgiFunctionApp(web, http_auth_level=func.AuthLevel.ANONYMOUS)
guard_app(app)
