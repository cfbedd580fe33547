"""An ASGI service that runs the contract's user code on request."""

from contract import user_code
from main import reports
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from trace_guard_gcf import AsyncGuardMiddleware


@reports
async def answer(request):
    return getattr(user_code, request.query_params["code"])()


async def ask(request):
    return PlainTextResponse(await answer(request))


app = Starlette(routes=[Route("/ask", ask, methods=["POST"])])
app.add_middleware(AsyncGuardMiddleware, name="root")
