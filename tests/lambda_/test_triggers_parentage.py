"""The rules by which an invocation finds its parent."""

from __future__ import annotations

from typing import Any

import pytest
from recorded_events import CONTAINER, OTHER, SECRET, TRACED, TRACEPARENT, recorded

from trace_guard_lambda.triggers import Description, describe, parentage

SECOND = {**TRACED, "traceparent": OTHER}
FOREIGN = {"traceparent": TRACEPARENT, "tracestate": "acme=1", "baggage": "tenant=acme"}
FOREIGN_TOO = {"traceparent": OTHER}
LINK, LINK_TOO = {"traceparent": TRACEPARENT, "braintrust.parent": CONTAINER}, {"traceparent": OTHER}


@pytest.mark.parametrize(
    ("carriers", "fallbacks", "parent", "metadata"),
    [
        ([], [], None, {}),
        ([{}], [], None, {}),
        ([TRACED], [], TRACED, {}),
        ([{**TRACED, "tracestate": "acme=1"}], [], {**TRACED, "tracestate": "acme=1"}, {}),
        ([FOREIGN], [], None, {"traceparent": TRACEPARENT}),
        ([TRACED, dict(TRACED)], [], TRACED, {}),
        ([FOREIGN, dict(FOREIGN)], [], None, {"traceparent": TRACEPARENT}),
        ([TRACED, {}], [], None, {"links": [LINK], "links_count": 1}),
        ([TRACED, FOREIGN_TOO], [], None, {"links": [LINK, LINK_TOO], "links_count": 2}),
        ([TRACED, SECOND], [], None, {"links": [LINK, {**LINK, "traceparent": OTHER}], "links_count": 2}),
        ([TRACED], [SECOND], TRACED, {}),
        ([], [SECOND], SECOND, {}),
        ([FOREIGN], [SECOND], SECOND, {"traceparent": TRACEPARENT}),
        ([], [FOREIGN_TOO, TRACED], TRACED, {"traceparent": OTHER}),
        ([], [FOREIGN_TOO], None, {"traceparent": OTHER}),
        ([TRACED, {}], [SECOND], SECOND, {"links": [LINK], "links_count": 1}),
    ],
)
def test_the_rule_of_parents(carriers: Any, fallbacks: Any, parent: Any, metadata: Any) -> None:
    """A context becomes the parent only if it names a place in Braintrust and all records of a batch share it."""
    assert parentage(carriers, fallbacks) == (parent, metadata)


def test_links_are_cut() -> None:
    """The first 32 of many different parents become links, and all are counted."""
    carriers = [{**TRACED, "traceparent": f"00-{n:032x}-{n:016x}-01"} for n in range(1, 101)]
    parent, metadata = parentage(carriers)
    assert parent is None
    assert metadata["links_count"] == 100
    assert [link["traceparent"] for link in metadata["links"]] == [one["traceparent"] for one in carriers[:32]]


@pytest.mark.parametrize(
    ("baggage", "container"),
    [
        ("braintrust.parent=project_name%3Asupport%20bot", "project_name:support bot"),
        ("tenant=acme, braintrust.parent=project_id:1;ttl=5,more=1", "project_id:1"),
    ],
)
def test_a_link_names_its_place(baggage: str, container: str) -> None:
    """A link has the project of its trace if the baggage has it."""
    _, metadata = parentage([{"traceparent": TRACEPARENT, "baggage": baggage}, {}])
    assert metadata["links"] == [{"traceparent": TRACEPARENT, "braintrust.parent": container}]


@pytest.mark.parametrize("odd", [[None], [5], [{"traceparent": 5, "baggage": 7}], None, 5])
@pytest.mark.parametrize("odd_too", [[], None])
def test_odd_carriers_do_no_harm(odd: Any, odd_too: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Invalid carriers of a custom extractor are no parent and raise nothing."""
    assert parentage(odd, odd_too)[0] is None
    caplog.clear()


@pytest.mark.parametrize(
    ("event", "parent"),
    [
        ("api_gateway_rest", {**TRACED, "tracestate": "acme=1"}), ("api_gateway_http_v1", None), ("sqs", TRACED),
        ("sqs_fifo", TRACED), ("sqs_batch", None), ("msk", TRACED), ("eventbridge", TRACED),
    ],
)
def test_recorded_events_give_their_parents(event: str, parent: Any) -> None:
    """The trace context of each recorded event, in its particular form, is found as its parent."""
    assert parentage(describe(recorded(event)).carriers)[0] == parent


class Context:
    """A context with a client context and, as from version 4.2 of the runtime client on, a trace context."""

    def __init__(self, custom: Any = None, w3c: Any = None) -> None:
        self.client_context = None if custom is None else type("ClientContext", (), {"custom": custom})()
        self._w3c = w3c or {}

    def w3c(self) -> Any:
        return self._w3c


@pytest.mark.parametrize(
    ("context", "fallbacks", "source"),
    [
        (None, (), "other"),
        (Context(), (), "other"),
        (Context(custom={"tenant": "acme"}), (), "direct"),
        (Context(custom={"Traceparent": OTHER, "Baggage": TRACED["baggage"], "x": 1}), (SECOND,), "direct"),
        (Context(w3c=TRACED), (TRACED,), "other"),
        (Context(SECOND, TRACED), (SECOND, TRACED), "direct"),
        (Context("text", "text"), (), "other"),
    ],
)
def test_contexts_outside_the_event(context: Any, fallbacks: Any, source: str) -> None:
    """The client context and Lambda's own trace context are read, in this order."""
    description = describe({}, context)
    assert (description.fallbacks, description.source) == (fallbacks, source)
    assert describe(recorded("sqs"), context).fallbacks == fallbacks


def test_a_tool_of_an_agentcore_gateway_is_described_by_its_context() -> None:
    """A gateway sends a tool's input alone: name and ids come from the client context, without the target's prefix."""
    custom = {
        "bedrockAgentCoreAwsRequestId": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
        "bedrockAgentCoreGatewayId": "support-gateway-a1b2c3d4e5",
        "bedrockAgentCoreMcpMessageId": "7",
        "bedrockAgentCoreTargetId": "TARGET0001",
        "bedrockAgentCoreToolName": "refunds___open_claim",
    }
    assert describe({"claim": SECRET}, Context(custom)) == Description(
        name="open_claim",
        trigger="other",
        metadata={
            "aws.bedrock.agentcore.gateway_id": "support-gateway-a1b2c3d4e5",
            "aws.bedrock.agentcore.mcp_message_id": "7",
            "aws.bedrock.agentcore.target_id": "TARGET0001",
            "aws.lambda.event_source.type": "agentcore_gateway",
            "aws.request_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.tool.name": "open_claim",
        },
        source="agentcore_gateway",
    )
