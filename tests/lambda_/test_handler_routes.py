"""Names of requests whose route a framework in the handler finds."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aws_lambda_powertools.event_handler import ALBResolver, APIGatewayHttpResolver
from fastapi import APIRouter, FastAPI, HTTPException
from flask import Flask
from mangum import Mangum
from recorded_events import recorded
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard.rows import Row
from trace_guard_lambda import guard_handler

Handler = Callable[[Any, Any], Any]


class Broken(Exception):
    """Raised by the applications."""


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Path) -> Any:
    guard = Guard(backend=backend, dir=directory, project="p")
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum uses that of the thread
    yield guard
    asyncio.set_event_loop(None)
    loop.close()
    guard.close()


def fastapi() -> Handler:
    app, orders = FastAPI(), APIRouter(prefix="/orders")

    @orders.get("/{order_id}")
    def order(order_id: int) -> dict[str, int]:
        return {"order": order_id}

    @orders.get("/{order_id}/broken")
    def broken(order_id: int) -> None:
        raise Broken("no such table")

    @orders.get("/{order_id}/missing")
    def missing(order_id: int) -> None:
        raise HTTPException(404)

    app.include_router(orders)
    return Mangum(app, lifespan="off")


def starlette() -> Handler:
    async def order(request: Any) -> PlainTextResponse:
        return PlainTextResponse(request.path_params["order_id"])

    async def broken(request: Any) -> PlainTextResponse:
        raise Broken("no such table")

    async def missing(request: Any) -> PlainTextResponse:
        return PlainTextResponse("", 404)

    routes = [Route("/{order_id}", order), Route("/{order_id}/broken", broken), Route("/{order_id}/missing", missing)]
    return Mangum(Starlette(routes=[Mount("/orders", routes=routes)]), lifespan="off")


def flask() -> Handler:
    app = Flask("shop")

    @app.get("/orders/<int:order_id>")
    def order(order_id: int) -> dict[str, int]:
        return {"order": order_id}

    @app.get("/orders/<int:order_id>/broken")
    def broken(order_id: int) -> str:
        raise Broken("no such table")

    @app.get("/orders/<int:order_id>/missing")
    def missing(order_id: int) -> tuple[str, int]:
        return "", 404

    def handler(event: Any, context: Any) -> dict[str, Any]:  # as apig-wsgi, serverless-wsgi and aws-wsgi do
        answer: dict[str, Any] = {}

        def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
            answer.update(statusCode=int(status[:3]), headers=dict(headers))

        environ = {
            "REQUEST_METHOD": "GET", "PATH_INFO": event.get("path") or event.get("rawPath"), "QUERY_STRING": "",
            "SERVER_NAME": "lambda", "SERVER_PORT": "80", "wsgi.url_scheme": "https", "wsgi.input": io.BytesIO(),
            "wsgi.errors": io.StringIO(),
        }
        body = app(environ, start_response)
        return {**answer, "body": b"".join(body).decode()}

    return handler


def powertools(kind: Any) -> Handler:
    app = kind()

    @app.get("/orders/<order_id>")  # type: ignore[untyped-decorator,unused-ignore]
    def order(order_id: str) -> dict[str, str]:
        return {"order": order_id}

    @app.get("/orders/<order_id>/broken")  # type: ignore[untyped-decorator,unused-ignore]
    def broken(order_id: str) -> None:
        raise Broken("no such table")

    @app.get("/orders/<order_id>/missing")  # type: ignore[untyped-decorator,unused-ignore]
    def missing(order_id: str) -> tuple[dict[str, str], int]:
        return {}, 404

    @app.exception_handler(Broken)  # type: ignore[untyped-decorator,unused-ignore]
    def answer(error: Broken) -> Any:
        from aws_lambda_powertools.event_handler import Response

        return Response(500, "text/plain", "broken")

    return lambda event, context: app.resolve(event, context)


def request(event: str, path: str) -> Any:
    """A recorded event with another path, and with the route that a catch-all has."""
    fields = recorded(event)
    if "rawPath" in fields:
        fields.update(rawPath=path, routeKey="$default")
        fields["requestContext"]["http"].update(path=path, method="GET")
        fields["requestContext"].update(routeKey="$default", stage="$default")
    else:
        fields.update(path=path, httpMethod="GET")
        if "resource" in fields:
            fields.update(resource="/{proxy+}")
            fields["requestContext"].update(resourcePath="/{proxy+}", path=path)
    return fields


# The application, the recorded event, and the route of an order as the framework writes it.
CASES: dict[str, tuple[Callable[[], Handler], str, str]] = {
    "FastAPI, HTTP API": (fastapi, "api_gateway_http", "/orders/{order_id}"),
    "FastAPI, REST API": (fastapi, "api_gateway_rest", "/orders/{order_id}"),
    "FastAPI, function URL": (fastapi, "function_url_get", "/orders/{order_id}"),
    "FastAPI, load balancer": (fastapi, "alb", "/orders/{order_id}"),
    "Starlette, mounted": (starlette, "api_gateway_http", "/orders/{order_id}"),
    "Flask, load balancer": (flask, "alb", "/orders/<int:order_id>"),
    "Flask, HTTP API": (flask, "api_gateway_http", "/orders/<int:order_id>"),
    "Powertools, load balancer": (lambda: powertools(ALBResolver), "alb", "/orders/<order_id>"),
    "Powertools, HTTP API": (lambda: powertools(APIGatewayHttpResolver), "api_gateway_http", "/orders/<order_id>"),
}


def answered(backend: MemoryBackend, handler: Handler, event: Any) -> tuple[int, Row]:
    """The status that the handler answers with, and the root of its only trace."""
    before = len(backend.rows())
    status = handler(event, None)["statusCode"]
    (row,) = backend.rows()[before:]
    assert row["metadata"]["http.response.status_code"] == status
    return status, row


@pytest.mark.parametrize("case", CASES)
def test_a_framework_s_route_names_the_root(guard: Guard, backend: MemoryBackend, case: str) -> None:
    """The root is named after the framework's route, and has the exception that the framework turned into a 500."""
    make, kind, route = CASES[case]
    handler = guard_handler(guard=guard)(make())

    status, row = answered(backend, handler, request(kind, "/orders/17"))
    assert (status, row["span_attributes"]["name"], row["metadata"]["http.route"]) == (200, f"GET {route}", route)
    assert (row["metadata"]["url.path"], row.get("error")) == ("/orders/17", None)

    status, row = answered(backend, handler, request(kind, "/orders/17/missing"))
    assert (status, row["span_attributes"]["name"], row.get("error")) == (404, f"GET {route}/missing", None)

    status, row = answered(backend, handler, request(kind, "/orders/17/broken"))
    assert (status, row["span_attributes"]["name"]) == (500, f"GET {route}/broken")
    assert "Broken: no such table" in row["error"] or "Broken('no such table')" in row["error"]

    status, row = answered(backend, handler, request(kind, "/nothing/17"))
    assert (status, "17" in row["span_attributes"]["name"]) == (404, False)


def test_a_name_of_the_user_s_stays(guard: Guard, backend: MemoryBackend) -> None:
    """With ``name=`` the root keeps that name, and has the route as metadata."""
    handler = guard_handler(guard=guard, name="shop")(fastapi())
    _, row = answered(backend, handler, request("alb", "/orders/17"))
    assert (row["span_attributes"]["name"], row["metadata"]["http.route"]) == ("shop", "/orders/{order_id}")


def test_a_route_of_another_invocation_is_not_used(guard: Guard, backend: MemoryBackend) -> None:
    """After a request, an event that is none keeps its name although its handler calls the same application."""
    app = fastapi()
    handler = guard_handler(guard=guard)(app)
    answered(backend, handler, request("alb", "/orders/17"))

    @guard_handler(guard=guard)
    def nightly(event: Any, context: Any) -> Any:
        return app(request("alb", "/orders/18"), context)

    nightly(recorded("schedule_rule"), None)
    assert backend.rows()[-1]["span_attributes"]["name"] != "GET /orders/{order_id}"
