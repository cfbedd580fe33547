"""CloudFront: Lambda@Edge.

https://docs.aws.amazon.com/AmazonCloudFront/latest/DeveloperGuide/lambda-event-structure.html
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import LOOKED_AT, carrier, mapping, number, text

from .description import Carrier, Description, Judgement
from .http import Http, http_facts, judged
from .reading import first_record, sequence

__all__ = ["CloudFront"]


class CloudFront(Http):
    """A request, or a response, on its way through a distribution."""

    source = "cloudfront"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        parts = mapping(first_record(event).get("cf"))
        return "config" in parts and "request" in parts

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        parts = mapping(first_record(event).get("cf"))
        config, request = mapping(parts.get("config")), mapping(parts.get("request"))
        name, facts = http_facts(request.get("method"), None, request.get("uri"))
        facts.update({
            "server.address": text(config.get("distributionDomainName")),
            "aws.cloudfront.distribution_id": text(config.get("distributionId")),
            "aws.cloudfront.event_type": text(config.get("eventType")),
            "aws.request_id": text(config.get("requestId")),
        })
        return cls.description(facts, name=name, carriers=(_carrier(request),))

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        """A result with a status is a response. If it is that of the origin, its status is no error of the function."""
        judgement = judged(number(mapping(result).get("status")))
        passed_on = (text(description.metadata.get("aws.cloudfront.event_type")) or "").endswith("-response")
        return judgement._replace(error=None) if passed_on else judgement


def _carrier(request: Mapping[Any, Any]) -> Carrier:
    """Headers are lists of objects with key and value, by the name in lower case."""
    headers = mapping(request.get("headers"))
    return carrier({
        name: [mapping(header).get("value") for header in sequence(headers.get(name))[:LOOKED_AT]]
        for name in ("traceparent", "tracestate", "baggage")
    })
