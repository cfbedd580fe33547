"""The middleware for the event handlers of Powertools.

https://docs.aws.amazon.com/powertools/python/latest/core/event_handler/api_gateway/#middleware
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trace_guard import Invocation, current_invocation
from trace_guard.contain import contain
from trace_guard.http.frameworks.powertools import is_not_found
from trace_guard.invocation.reading import mapping, number
from trace_guard.runtime.state import PROCESS

from .judging import judge_also

__all__ = ["GuardMiddleware"]


class GuardMiddleware:
    """Names the root span after the route, and records exceptions that Powertools turns into responses::

        app = APIGatewayHttpResolver()
        app.use([GuardMiddleware()])

        @guard_handler
        def lambda_handler(event, context):
            return app.resolve(event, context)

    For ``APIGatewayRestResolver``, ``APIGatewayHttpResolver``, ``ALBResolver``, ``LambdaFunctionUrlResolver``,
    ``VPCLatticeResolver``, ``VPCLatticeV2Resolver`` and ``BedrockAgentResolver``, and for ``resolve_async``. Put it
    first, so that it sees the exceptions of all other middleware.

    The root gets the route's method and template as its name (``GET /items/<item_id>``) and as ``http.route`` before
    the route runs, so a trace that times out has them too. It gets the status as ``http.response.status_code``. An
    exception that an exception handler or Powertools' debug mode turns into a status of 500 or more is recorded on the
    root with its type and traceback. An exception that becomes a lower status, such as ``NotFoundError``, is no error.
    Without a route or outside a guarded invocation, the middleware does nothing.
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
    if route is None or is_not_found(route):
        return  # an unknown path is no name
    invocation.rename(
        f"{route.method} {route.path}", {"http.request.method": route.method, "http.route": route.path}
    )


def _watch(invocation: Invocation, error: Exception | None) -> None:
    """Record the status of the handler's result and, if that is an error, the exception. Powertools or the handler may
    still turn the exception into any response."""

    def judge(invocation: Invocation, result: Any) -> None:
        status = _status_of(result)
        if status is None:
            return
        invocation.note({"http.response.status_code": int(status)})  # it may be an HTTPStatus
        if status >= 500:
            invocation.fail(PROCESS.sdk.error_text(error) if error is not None else f"HTTP {int(status)}")

    judge_also(invocation, judge)


def _status_of(result: Any) -> int | None:
    """The HTTP status in a result for a gateway, load balancer, function URL or VPC Lattice, or for a Bedrock agent."""
    fields = mapping(result)
    status = number(fields.get("statusCode"))
    return number(mapping(fields.get("response")).get("httpStatusCode")) if status is None else status
