"""The descriptions of recorded events of authorizers, which are named after what they guard."""

from __future__ import annotations

import pytest
from recorded_events import TRACED, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "api_gateway_authorizer": Description(
        name="authorize GET /tickets/{ticketId}",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "a1b2c3d4e5",
            "aws.api_gateway.stage": "prod",
            "aws.extended_request_id": "Kx2GZE6wFiAFb8A=",
            "aws.lambda.event_source.type": "api_gateway_authorizer",
            "aws.request_id": "5f6d8c1e-3c2b-4a57-9d0e-1a2b3c4d5e6f",
            "http.request.method": "GET",
            "http.route": "/tickets/{ticketId}",
            "server.address": "api.example.org",
            "url.path": "/tickets/81524",
        },
        source="api_gateway_authorizer",
    ),
    "api_gateway_authorizer_http": Description(
        name="authorize PUT /tickets/{ticketId}",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "a9z8y7x6w5",
            "aws.api_gateway.stage": "$default",
            "aws.lambda.event_source.type": "api_gateway_authorizer",
            "aws.request_id": "SiVnUh9lliAEMtQ=",
            "http.request.method": "PUT",
            "http.route": "/tickets/{ticketId}",
            "server.address": "a9z8y7x6w5.execute-api.eu-central-1.amazonaws.com",
            "url.path": "/tickets/81524",
        },
        source="api_gateway_authorizer",
    ),
    "api_gateway_authorizer_token": Description(
        name="authorize GET",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "a1b2c3d4e5",
            "aws.api_gateway.stage": "prod",
            "aws.lambda.event_source.type": "api_gateway_authorizer",
            "http.request.method": "GET",
            "url.path": "/tickets/81524",
        },
        source="api_gateway_authorizer",
    ),
    "api_gateway_authorizer_websocket": Description(
        name="authorize WebSocket $connect",
        trigger="http",
        metadata={
            "aws.api_gateway.api_id": "w5v4u3t2s1",
            "aws.api_gateway.route_key": "$connect",
            "aws.api_gateway.stage": "live",
            "aws.extended_request_id": "SiVpRF_hliAFq1w=",
            "aws.lambda.event_source.type": "api_gateway_authorizer",
            "aws.request_id": "SiVpRF_hliAFq1w=",
            "server.address": "w5v4u3t2s1.execute-api.eu-central-1.amazonaws.com",
        },
        carriers=({**TRACED, "tracestate": "acme=1"},),
        source="api_gateway_authorizer",
    ),
    "appsync_authorizer": Description(
        name="authorize GraphQL",
        trigger="http",
        metadata={
            "aws.appsync.api_id": "giy7kumfmvcqvbedntjwjvagii",
            "aws.lambda.event_source.type": "appsync_authorizer",
            "aws.request_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "graphql.operation.name": "Ask",
        },
        carriers=(TRACED,),
        source="appsync_authorizer",
    ),
    "appsync_authorizer_events": Description(
        name="authorize EVENT_PUBLISH",
        trigger="http",
        metadata={
            "aws.appsync.api_id": "giy7kumfmvcqvbedntjwjvagii",
            "aws.appsync.namespace": "tickets",
            "aws.appsync.operation": "EVENT_PUBLISH",
            "aws.lambda.event_source.type": "appsync_authorizer",
            "aws.request_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
        },
        source="appsync_authorizer",
    ),
    "iot_authorizer": Description(
        name="authorize IoT",
        trigger="other",
        metadata={
            "aws.iot.connection_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "aws.lambda.event_source.type": "iot_authorizer",
            "messaging.client.id": "kiosk-7",
        },
        source="iot_authorizer",
    ),
    "transfer_authorizer": Description(
        name="authorize SFTP",
        trigger="other",
        metadata={
            "aws.lambda.event_source.type": "transfer_authorizer",
            "aws.transfer.server_id": "s-0a1b2c3d4e5f60718",
            "network.protocol.name": "sftp",
        },
        source="transfer_authorizer",
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]
