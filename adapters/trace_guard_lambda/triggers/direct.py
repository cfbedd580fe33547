"""Direct invocations, and events that no other entry of the table matches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard.invocation.reading import carrier, mapping, text

from .description import Carrier, Description, Trigger

__all__ = ["AgentCoreGateway", "Direct", "Other", "fallbacks_of"]


class AgentCoreGateway(Trigger):
    """A tool of an AgentCore gateway. The event is the tool's input; its name and ids are in the client context.

    https://docs.aws.amazon.com/bedrock-agentcore/latest/devguide/gateway-add-target-lambda.html
    """

    source = "agentcore_gateway"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        custom = _custom(context)
        return "bedrockAgentCoreToolName" in custom and (
            "bedrockAgentCoreGatewayId" in custom or "bedrockAgentCoreTargetId" in custom
        )

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        custom = _custom(context)
        tool = (text(custom.get("bedrockAgentCoreToolName")) or "").rpartition("___")[2] or None  # target___tool
        facts = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.tool.name": tool,
            "aws.bedrock.agentcore.gateway_id": text(custom.get("bedrockAgentCoreGatewayId")),
            "aws.bedrock.agentcore.target_id": text(custom.get("bedrockAgentCoreTargetId")),
            "aws.bedrock.agentcore.mcp_message_id": text(custom.get("bedrockAgentCoreMcpMessageId")),
            "aws.request_id": text(custom.get("bedrockAgentCoreAwsRequestId")),
        }
        return cls.description(facts, name=tool, carriers=(carrier(event),))


class Direct(Trigger):
    """``Invoke`` with a client context.

    https://docs.aws.amazon.com/lambda/latest/api/API_Invoke.html
    """

    source = "direct"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        return bool(_custom(context))

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        return cls.description(carriers=(carrier(event),))


class Other(Trigger):
    """Anything else: other services, plain invocations, warm-up pings. A parent can be at the top of the event."""

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        return cls.description(carriers=(carrier(event),))


def fallbacks_of(context: Any) -> tuple[Carrier, ...]:
    """The trace contexts outside the event: first that of the caller's client context, then that of the runtime."""
    if context is None:
        return ()
    # Lambda's runtime client has ``w3c`` from version 4.2 on.
    w3c = getattr(context, "w3c", None)
    carriers = carrier(_custom(context)), carrier(w3c()) if callable(w3c) else {}
    return tuple(each for each in carriers if each)


def _custom(context: Any) -> Mapping[Any, Any]:
    client = getattr(context, "client_context", None)
    return mapping(getattr(client, "custom", None) or mapping(client).get("custom")) if client is not None else {}
