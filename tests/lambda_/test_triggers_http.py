"""The descriptions of recorded HTTP events: API Gateway, function URLs and load balancers."""

from __future__ import annotations

import pytest
from recorded_events import CONTAINER, TRACED, TRACEPARENT, arn, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "alb": Description(
        name="POST",
        trigger="http",
        metadata={
            "aws.lambda.event_source.arn": arn("elasticloadbalancing", "targetgroup/support-bot/6d0ecf831eec9f09"),
            "aws.lambda.event_source.type": "alb",
            "http.request.method": "POST",
            "url.path": "/ask/81524",
        },
        carriers=({"traceparent": TRACEPARENT},),
        source="alb",
    ),
    "alb_multi_value_headers": Description(
        name="POST",
        trigger="http",
        metadata={
            "aws.lambda.event_source.arn": arn("elasticloadbalancing", "targetgroup/support-bot/6d0ecf831eec9f09"),
            "aws.lambda.event_source.type": "alb",
            "http.request.method": "POST",
            "url.path": "/ask/81524",
        },
        carriers=({"traceparent": TRACEPARENT, "baggage": f"tenant=acme,braintrust.parent={CONTAINER}"},),
        source="alb",
    ),
    "api_gateway_http": Description(
        name="PUT /tickets/{ticketId}",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "a9z8y7x6w5",
            "aws.api_gateway.stage": "$default",
            "aws.lambda.event_source.type": "api_gateway_http",
            "aws.request_id": "SiVnUh9lliAEMtQ=",
            "http.request.method": "PUT",
            "http.route": "/tickets/{ticketId}",
            "server.address": "a9z8y7x6w5.execute-api.eu-central-1.amazonaws.com",
            "url.path": "/tickets/81524",
        },
        carriers=(TRACED,),
        source="api_gateway_http",
    ),
    "api_gateway_http_default_route": Description(
        name="GET",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "a9z8y7x6w5",
            "aws.api_gateway.stage": "$default",
            "aws.lambda.event_source.type": "api_gateway_http",
            "aws.request_id": "SiVnUh9lliAEMtQ=",
            "http.request.method": "GET",
            "server.address": "a9z8y7x6w5.execute-api.eu-central-1.amazonaws.com",
            "url.path": "/anything/81524",
        },
        source="api_gateway_http",
    ),
    "api_gateway_http_v1": Description(
        name="GET /tickets/{ticketId}",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "a1b2c3d4e5",
            "aws.api_gateway.stage": "prod",
            "aws.extended_request_id": "Kx2GZE6wFiAFb8A=",
            "aws.lambda.event_source.type": "api_gateway_rest",
            "aws.request_id": "5f6d8c1e-3c2b-4a57-9d0e-1a2b3c4d5e6f",
            "http.request.method": "GET",
            "http.route": "/tickets/{ticketId}",
            "server.address": "api.example.org",
            "url.path": "/tickets/81524",
        },
        carriers=({"traceparent": TRACEPARENT},),
        source="api_gateway_rest",
    ),
    "api_gateway_rest": Description(
        name="GET /tickets/{ticketId}",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "a1b2c3d4e5",
            "aws.api_gateway.stage": "prod",
            "aws.extended_request_id": "Kx2GZE6wFiAFb8A=",
            "aws.lambda.event_source.type": "api_gateway_rest",
            "aws.request_id": "5f6d8c1e-3c2b-4a57-9d0e-1a2b3c4d5e6f",
            "http.request.method": "GET",
            "http.route": "/tickets/{ticketId}",
            "server.address": "api.example.org",
            "url.path": "/tickets/81524",
        },
        carriers=({**TRACED, "tracestate": "acme=1"},),
        source="api_gateway_rest",
    ),
    "api_gateway_rest_proxy": Description(
        name="POST /{proxy+}",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "a1b2c3d4e5",
            "aws.api_gateway.stage": "prod",
            "aws.extended_request_id": "Kx2GZE6wFiAFb8A=",
            "aws.lambda.event_source.type": "api_gateway_rest",
            "aws.request_id": "5f6d8c1e-3c2b-4a57-9d0e-1a2b3c4d5e6f",
            "http.request.method": "POST",
            "http.route": "/{proxy+}",
            "server.address": "api.example.org",
            "url.path": "/files/2025/a.pdf",
        },
        source="api_gateway_rest",
    ),
    "api_gateway_websocket_connect": Description(
        name="WebSocket $connect",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "w5v4u3t2s1",
            "aws.api_gateway.connection_id": "SiVpQcyeFiACJ5A=",
            "aws.api_gateway.route_key": "$connect",
            "aws.api_gateway.stage": "live",
            "aws.extended_request_id": "SiVpRF_hliAFq1w=",
            "aws.lambda.event_source.type": "api_gateway_websocket",
            "aws.request_id": "SiVpRF_hliAFq1w=",
            "network.protocol.name": "websocket",
            "server.address": "w5v4u3t2s1.execute-api.eu-central-1.amazonaws.com",
        },
        carriers=({**TRACED, "tracestate": "acme=1"},),
        source="api_gateway_websocket",
    ),
    "api_gateway_websocket_disconnect": Description(
        name="WebSocket $disconnect",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "w5v4u3t2s1",
            "aws.api_gateway.connection_id": "SiVpQcyeFiACJ5A=",
            "aws.api_gateway.route_key": "$disconnect",
            "aws.api_gateway.stage": "live",
            "aws.extended_request_id": "SiVpRF_hliAFq1w=",
            "aws.lambda.event_source.type": "api_gateway_websocket",
            "aws.request_id": "SiVpRF_hliAFq1w=",
            "network.protocol.name": "websocket",
            "server.address": "w5v4u3t2s1.execute-api.eu-central-1.amazonaws.com",
        },
        source="api_gateway_websocket",
    ),
    "api_gateway_websocket_message": Description(
        name="WebSocket ask",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "w5v4u3t2s1",
            "aws.api_gateway.connection_id": "SiVpQcyeFiACJ5A=",
            "aws.api_gateway.message_id": "SiVpYdxNliACJ5A=",
            "aws.api_gateway.route_key": "ask",
            "aws.api_gateway.stage": "live",
            "aws.extended_request_id": "SiVpRF_hliAFq1w=",
            "aws.lambda.event_source.type": "api_gateway_websocket",
            "aws.request_id": "SiVpRF_hliAFq1w=",
            "network.protocol.name": "websocket",
            "server.address": "w5v4u3t2s1.execute-api.eu-central-1.amazonaws.com",
        },
        source="api_gateway_websocket",
    ),
    "function_url": Description(
        name="POST",
        trigger="http",
        metadata={
            "aws.lambda.event_source.type": "function_url",
            "aws.request_id": "SiVnUh9lliAEMtQ=",
            "http.request.method": "POST",
            "server.address": "h4fq2p7zr3kxm5ylwcnb6d8s9t0gveua.lambda-url.eu-central-1.on.aws",
            "url.path": "/chat/81524",
        },
        carriers=(TRACED,),
        source="function_url",
    ),
    "function_url_get": Description(
        name="GET",
        trigger="http",
        metadata={
            "aws.lambda.event_source.type": "function_url",
            "aws.request_id": "SiVnUh9lliAEMtQ=",
            "http.request.method": "GET",
            "server.address": "h4fq2p7zr3kxm5ylwcnb6d8s9t0gveua.lambda-url.eu-central-1.on.aws",
            "url.path": "/",
        },
        source="function_url",
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]


@pytest.mark.parametrize(
    ("changes", "name", "method", "path"),
    [
        ({"httpMethod": "get"}, "GET /tickets/{ticketId}", "GET", "/tickets/81524"),
        ({"httpMethod": "BREW"}, "HTTP /tickets/{ticketId}", "_OTHER", "/tickets/81524"),
        ({"path": "/tickets/81524?token=x"}, "GET /tickets/{ticketId}", "GET", "/tickets/81524"),
    ],
)
def test_odd_requests_have_plain_names(changes: dict[str, str], name: str, method: str, path: str) -> None:
    """Unknown HTTP methods are not used as span names, and a query is not part of a path."""
    description = describe({**recorded("api_gateway_rest"), **changes})
    told = (description.metadata["http.request.method"], description.metadata["url.path"])
    assert (description.name, *told) == (name, method, path)
