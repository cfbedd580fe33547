"""VPC Lattice: requests to a service whose target is the function.

https://docs.aws.amazon.com/vpc-lattice/latest/ug/lambda-functions.html
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import mapping, text

from .description import Description
from .http import Http, header_carriers, http_facts
from .reading import ARN

__all__ = ["VpcLattice", "VpcLatticeV1"]


class VpcLattice(Http):
    """A request in version 2.0 of the event, whose headers have several values."""

    source = "vpc_lattice"
    keys = ("method", "path", "requestContext")

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        request = mapping(mapping(event).get("requestContext"))
        return super().infer(event, context) and ("serviceArn" in request or "serviceNetworkArn" in request)

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        request = mapping(fields.get("requestContext"))
        name, facts = http_facts(fields.get("method"), None, fields.get("path"))
        facts.update({
            "aws.vpc_lattice.service.arn": text(request.get("serviceArn")),
            "aws.vpc_lattice.service_network.arn": text(request.get("serviceNetworkArn")),
            ARN: text(request.get("targetGroupArn")),
        })
        return cls.description(facts, name=name, carriers=header_carriers(fields))


class VpcLatticeV1(Http):
    """A request in the first version of the event, which has no ids."""

    source = "vpc_lattice_v1"
    keys = ("raw_path", "method", "headers")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        name, facts = http_facts(fields.get("method"), None, fields.get("raw_path"))
        return cls.description(facts, name=name, carriers=header_carriers(fields))
