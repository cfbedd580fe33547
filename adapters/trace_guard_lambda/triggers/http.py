"""HTTP: API Gateway in all its forms, Lambda function URLs and load balancers.

Names and attributes: https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import carrier, mapping, number, text

from .description import Carrier, Description, Judgement, Trigger
from .reading import ARN

__all__ = [
    "FunctionUrl", "Http", "HttpApi", "LoadBalancer", "RestApi", "WebSocketApi", "gateway_facts", "header_carriers",
    "http_facts", "judged",
]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"})


class Http(Trigger):
    """A request. The result is judged by its status code."""

    trigger = "http"

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        return judged(number(mapping(result).get("statusCode")))


class RestApi(Http):
    """A REST API with proxy integration, and an HTTP API with payload format 1.0.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
    """

    source = "api_gateway_rest"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        fields = mapping(event)
        return "httpMethod" in fields and ("resource" in fields or bool(_request(fields)))

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields, request = mapping(event), _request(event)
        route = text(fields.get("resource")) or text(request.get("resourcePath"))
        name, facts = http_facts(fields.get("httpMethod"), route, fields.get("path"))
        return cls.description({**facts, **gateway_facts(request)}, name=name, carriers=header_carriers(fields))


class HttpApi(Http):
    """An HTTP API with payload format 2.0.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
    """

    source = "api_gateway_http"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return bool(mapping(_request(event).get("http")))

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields, request = mapping(event), _request(event)
        http = mapping(request.get("http"))
        key = text(fields.get("routeKey")) or text(request.get("routeKey")) or ""  # "GET /items/{id}" or "$default"
        path = text(fields.get("rawPath")) or http.get("path")
        name, facts = http_facts(http.get("method"), key.partition(" ")[2], path)
        return cls.description({**facts, **cls._ids(request)}, name=name, carriers=header_carriers(fields))

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        """API Gateway sends a result without a status as the body of a 200."""
        fields = mapping(result)
        return judged(number(fields["statusCode"]) if "statusCode" in fields else 200)

    @classmethod
    def _ids(cls, request: Mapping[Any, Any]) -> dict[str, Any]:
        return gateway_facts(request)


class FunctionUrl(HttpApi):
    """A function URL, whose events are those of an HTTP API.

    https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html
    """

    source = "function_url"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        request = _request(event)
        return ".lambda-url." in (text(request.get("domainName")) or "") and bool(mapping(request.get("http")))

    @classmethod
    def _ids(cls, request: Mapping[Any, Any]) -> dict[str, Any]:
        return {"server.address": text(request.get("domainName")), "aws.request_id": text(request.get("requestId"))}


class WebSocketApi(Http):
    """A route of a WebSocket API. Only ``$connect`` has headers, which may carry a parent.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/apigateway-websocket-api-mapping-template-reference.html
    """

    source = "api_gateway_websocket"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        request = _request(event)
        return "connectionId" in request and ("eventType" in request or "routeKey" in request)

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        request = _request(event)
        route = text(request.get("routeKey"))
        facts = {
            "network.protocol.name": "websocket",
            "aws.api_gateway.route_key": route,
            "aws.api_gateway.connection_id": text(request.get("connectionId")),
            "aws.api_gateway.message_id": text(request.get("messageId")),
            **gateway_facts(request),
        }
        return cls.description(facts, name=f"WebSocket {route}" if route else None, carriers=header_carriers(event))


class LoadBalancer(Http):
    """An Application Load Balancer, with or without multi-value headers. It has no routes.

    https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
    """

    source = "alb"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return "elb" in _request(event)

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        name, facts = http_facts(fields.get("httpMethod"), None, fields.get("path"))
        balancer = mapping(_request(fields).get("elb"))
        facts[ARN] = text(balancer.get("targetGroupArn"))
        return cls.description(facts, name=name, carriers=header_carriers(fields))


def http_facts(method: Any, route: str | None, path: Any) -> tuple[str | None, dict[str, Any]]:
    """The span's name and the attributes of a request. Without a route the name is the method alone, because a path may
    contain ids. None without a method."""
    verb = (text(method) or "").upper()
    known = verb in _METHODS
    route = route if route and route.startswith("/") else None
    # A query string may hold secrets, so it must not end up in `url.path`.
    plain = (text(path) or "").partition("?")[0]
    facts = {
        "http.request.method": verb if known else "_OTHER" if verb else None,
        "http.route": route,
        "url.path": plain or None,
    }
    name = verb if known else "HTTP"
    return f"{name} {route}" if route else name if verb else None, facts


def judged(status: int | None) -> Judgement:
    """The judgement for a status code. As on OpenTelemetry's server spans, 500 and above are errors."""
    if status is None or not 100 <= status <= 599:
        return Judgement()
    error = f"HTTP {status}" if status >= 500 else None
    return Judgement(error, {"http.response.status_code": status})


def _request(event: Any) -> Mapping[Any, Any]:
    return mapping(mapping(event).get("requestContext"))


def gateway_facts(request: Mapping[Any, Any]) -> dict[str, Any]:
    """The ids in a request context of API Gateway."""
    return {
        "server.address": text(request.get("domainName")),
        "aws.api_gateway.api_id": text(request.get("apiId")),
        "aws.api_gateway.stage": text(request.get("stage")),
        "aws.request_id": text(request.get("requestId")),
        "aws.extended_request_id": text(request.get("extendedRequestId")),
    }


def header_carriers(event: Any) -> tuple[Carrier, ...]:
    """The trace context in the headers of a request, which may have several values."""
    fields = mapping(event)
    return (carrier(fields.get("headers")) or carrier(fields.get("multiValueHeaders")),)
