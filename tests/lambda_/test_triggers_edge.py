"""The descriptions of recorded events of VPC Lattice and CloudFront."""

from __future__ import annotations

import pytest
from recorded_events import CONTAINER, TRACED, TRACEPARENT, arn, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "vpc_lattice": Description(
        name="POST",
        trigger="http",
        metadata={
            "aws.lambda.event_source.arn": arn("vpc-lattice", "targetgroup/tg-0a1b2c3d4e5f"),
            "aws.lambda.event_source.type": "vpc_lattice",
            "aws.vpc_lattice.service.arn": arn("vpc-lattice", "service/svc-0a1b2c3d4e5f"),
            "aws.vpc_lattice.service_network.arn": arn("vpc-lattice", "servicenetwork/sn-0a1b2c3d4e5f"),
            "http.request.method": "POST",
            "url.path": "/ask/81524",
        },
        carriers=({**TRACED, "baggage": f"tenant=acme,braintrust.parent={CONTAINER}"},),
        source="vpc_lattice",
    ),
    "vpc_lattice_v1": Description(
        name="GET",
        trigger="http",
        metadata={
            "aws.lambda.event_source.type": "vpc_lattice_v1",
            "http.request.method": "GET",
            "url.path": "/ask/81524",
        },
        carriers=(TRACED,),
        source="vpc_lattice_v1",
    ),
    "cloudfront_viewer_request": Description(
        name="GET",
        trigger="http",
        metadata={
            "aws.cloudfront.distribution_id": "E1A2B3C4D5E6F7",
            "aws.cloudfront.event_type": "viewer-request",
            "aws.lambda.event_source.type": "cloudfront",
            "aws.request_id": "4TyzHTaYWb1GX1qTfsHhEqV6HUDd_BzoBZnwfnvQc_1oF26ClkoUSEQ==",
            "http.request.method": "GET",
            "server.address": "d1a2b3c4d5e6f7.cloudfront.net",
            "url.path": "/ask/81524",
        },
        carriers=({"traceparent": TRACEPARENT},),
        source="cloudfront",
    ),
    "cloudfront_origin_response": Description(
        name="GET",
        trigger="http",
        metadata={
            "aws.cloudfront.distribution_id": "E1A2B3C4D5E6F7",
            "aws.cloudfront.event_type": "origin-response",
            "aws.lambda.event_source.type": "cloudfront",
            "aws.request_id": "4TyzHTaYWb1GX1qTfsHhEqV6HUDd_BzoBZnwfnvQc_1oF26ClkoUSEQ==",
            "http.request.method": "GET",
            "server.address": "d1a2b3c4d5e6f7.cloudfront.net",
            "url.path": "/ask/81524",
        },
        carriers=({"traceparent": TRACEPARENT},),
        source="cloudfront",
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]
