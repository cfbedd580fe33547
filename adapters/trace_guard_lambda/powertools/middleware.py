"""The middleware for the event handlers of Powertools.

What it stands on: https://docs.aws.amazon.com/powertools/python/latest/core/event_handler/api_gateway/#middleware
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trace_guard import Invocation, current_invocation
from trace_guard.contain import contain
from trace_guard.invocation.reading import mapping, number
from trace_guard.runtime.state import PROCESS

from .judging import judge_also

__all__ = ["GuardMiddleware"]


class GuardMiddleware:
    """Names the root span after the route, and tells what Powertools makes of exceptions::

        app = APIGatewayHttpResolver()
        app.use([GuardMiddleware()])

        @guard_handler
        def lambda_handler(event, context):
            return app.resolve(event, context)

    For ``APIGatewayRestResolver``, ``APIGatewayHttpResolver``, ``ALBResolver``, ``LambdaFunctionUrlResolver``,
    ``VPCLatticeResolver``, ``VPCLatticeV2Resolver`` and ``BedrockAgentResolver``, and for ``resolve_async``. Put it
    first: it sees what the middlewares after it raise.

    The root gets the route's method and template as its name (``GET /items/<item_id>``) and as ``http.route``, at
    once, so that also a trace that times out has them, and the answer's status as ``http.response.status_code``. An
    exception that an exception handler, or Powertools' debug mode, has turned into a status of 500 or more stands on
    the root with its type and traceback. One that became a lower status is no error, nor is ``NotFoundError`` and its
    like. Without a route, or outside a guarded invocation, it does nothing.
    """

    @property
    def __name__(self) -> str:
        """Powertools prints it in debug mode."""
        return "GuardMiddleware"

    def __call__(self, app: Any, next_middleware: Callable[[Any], Any]) -> Any:
        invocation = current_invocation()
        if invocation is None:
            return next_middleware(app)
        with contain("name the route"):
            _name_route(invocation, app)
        error: Exception | None = None
        try:
            return next_middleware(app)
        except Exception as raised:
            error = raised
            raise
        finally:
            with contain("watch for the answer"):
                _watch(invocation, error)


def _name_route(invocation: Invocation, app: Any) -> None:
    route = app.context.get("_route")
    if route is None or _is_not_found(route):
        return  # a path that somebody made up is no name
    name = f"{route.method} {route.path}"
    invocation.span.set_attributes(name=name)
    invocation.span.log(metadata={"http.request.method": route.method, "http.route": route.path})


def _is_not_found(route: Any) -> bool:
    """True for the route that Powertools makes up when none matches, to run the middlewares for a 404."""
    function = route.func
    return bool(
        function.__name__ == "not_found_handler" and function.__module__.startswith("aws_lambda_powertools.")
    )


def _watch(invocation: Invocation, error: Exception | None) -> None:
    """When the handler's result is known, note its status, and if that is an error, what was raised. What Powertools
    or the handler itself makes of an exception is not known earlier."""

    def judge(invocation: Invocation, result: Any) -> None:
        status = _status_of(result)
        if status is None:
            return
        invocation.note({"http.response.status_code": int(status)})  # it may be an HTTPStatus
        if status >= 500:
            invocation.fail(PROCESS.sdk.error_text(error) if error is not None else f"HTTP {int(status)}")

    judge_also(invocation, judge)


def _status_of(result: Any) -> int | None:
    """In the form of API Gateway, load balancers, function URLs and VPC Lattice, else in that of Bedrock's agents."""
    found = mapping(result)
    status = number(found.get("statusCode"))
    return number(mapping(found.get("response")).get("httpStatusCode")) if status is None else status
