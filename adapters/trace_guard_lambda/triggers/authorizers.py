"""Authorizers of API Gateway and AppSync.

Their events look like the request that they guard. The spans are named after it, with ``authorize`` in front.
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import carrier, mapping, text

from .description import Description, Trigger
from .http import gateway_facts, header_carriers, http_facts

__all__ = ["AppSyncAuthorizer", "Authorizer"]


class Authorizer(Trigger):
    """A Lambda authorizer of a REST, HTTP or WebSocket API. Its result is a policy or a verdict, not a response.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-use-lambda-authorizer.html
    """

    source = "api_gateway_authorizer"
    trigger = "http"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        fields = mapping(event)
        return ("methodArn" in fields or "routeArn" in fields) and any(
            key in fields for key in ("type", "authorizationToken", "identitySource")
        )

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        request = mapping(fields.get("requestContext"))
        if "connectionId" in request:
            route = text(request.get("routeKey"))
            guarded, facts = f"WebSocket {route}" if route else None, {"aws.api_gateway.route_key": route}
        else:
            guarded, facts = _request(event)
        facts = {**facts, **gateway_facts(request), **_arn_facts(event)}
        name = f"authorize {guarded}" if guarded else "authorize"
        return cls.description(facts, name=name, carriers=header_carriers(fields))


class AppSyncAuthorizer(Trigger):
    """A Lambda authorizer of a GraphQL API, or of an Event API.

    https://docs.aws.amazon.com/appsync/latest/devguide/security-authz.html#aws-lambda-authorization
    """

    source = "appsync_authorizer"
    trigger = "http"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        fields = mapping(event)
        request = mapping(fields.get("requestContext"))
        return "authorizationToken" in fields and "apiId" in request and "requestId" in request

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        request = mapping(fields.get("requestContext"))
        operation = text(request.get("operation"))  # of an Event API, such as EVENT_PUBLISH
        facts = {
            "aws.appsync.api_id": text(request.get("apiId")),
            "aws.appsync.operation": operation,
            "aws.appsync.namespace": text(request.get("channelNamespaceName")),
            "aws.request_id": text(request.get("requestId")),
            "graphql.operation.name": text(request.get("operationName")),
        }
        name = f"authorize {operation or 'GraphQL'}"
        return cls.description(facts, name=name, carriers=(carrier(fields.get("requestHeaders")),))


def _request(event: Any) -> tuple[str | None, dict[str, Any]]:
    """The name and facts of the guarded request, in any of the payload formats. A token authorizer has only the ARN
    of the method, ``arn:aws:execute-api:region:account:api/stage/GET/path``."""
    fields = mapping(event)
    request = mapping(fields.get("requestContext"))
    http = mapping(request.get("http"))
    key = text(fields.get("routeKey")) or ""  # "GET /items/{id}" or "$default"
    parts = _arn(event).split("/", 3)
    method = fields.get("httpMethod") or http.get("method") or (parts[2] if len(parts) > 2 else None)
    route = text(fields.get("resource")) or text(request.get("resourcePath")) or key.partition(" ")[2]
    path = fields.get("path") or fields.get("rawPath") or http.get("path") or (
        f"/{parts[3]}" if len(parts) > 3 else None
    )
    return http_facts(method, route, path)


def _arn_facts(event: Any) -> dict[str, Any]:
    """The ids of the API from the ARN, for the events that have no request context."""
    parts = _arn(event).split("/", 3)
    api = parts[0].rpartition(":")[2]
    if len(parts) < 2 or not api or mapping(mapping(event).get("requestContext")):
        return {}
    return {"aws.api_gateway.api_id": api, "aws.api_gateway.stage": parts[1]}


def _arn(event: Any) -> str:
    fields = mapping(event)
    return text(fields.get("methodArn")) or text(fields.get("routeArn")) or ""
