"""FastAPI, Starlette, Quart and Django in one ASGI application."""

from __future__ import annotations

from typing import Any

import django_app  # noqa: F401
import quart
from django.core.asgi import get_asgi_application
from fastapi import APIRouter, FastAPI, HTTPException, Request
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

from trace_guard_gcf import AsyncGuardMiddleware

app = FastAPI()
router = APIRouter(prefix="/shop")


@router.get("/items/{number}")
async def item(number: str) -> str:
    return number


@router.get("/bad/{number}")
def bad(number: str) -> str:
    raise ValueError("no such order")


app.include_router(router, prefix="/api")
for version in ("/v1", "/v2"):
    mounted = FastAPI()
    mounted.include_router(router)
    app.mount(version, mounted)


class Shielding(BaseHTTPMiddleware):
    """Runs what is below in a task of its own, and answers for it."""

    async def dispatch(self, request: Any, call_next: Any) -> Any:
        try:
            return await call_next(request)
        except KeyError:
            return JSONResponse({}, 500)


async def handle(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse({}, 500)


async def fails(request: Request) -> PlainTextResponse:
    kind = request.path_params["kind"]
    if kind == "key":
        raise KeyError("no such order")
    if kind == "http":
        raise HTTPException(502, "no such order")
    raise (LookupError if kind == "handled" else ValueError)("no such order")


app.mount("/shielded", Starlette(
    routes=[Mount("/{tenant}", routes=[Route("/bad/{kind}", fails)])], middleware=[Middleware(Shielding)],
    exception_handlers={LookupError: handle},
))

on_quart = quart.Quart(__name__)


@on_quart.get("/quart/bad/<number>")
async def quart_bad(number: str) -> str:
    raise ValueError("no such order")


django = get_asgi_application()


async def choose(scope: Any, receive: Any, send: Any) -> Any:
    path = scope.get("path", "")
    chosen = django if path.startswith("/django/") else on_quart if path.startswith("/quart/") else app
    return await chosen(scope, receive, send)


guarded = AsyncGuardMiddleware(choose)
