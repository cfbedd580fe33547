"""Bedrock: action groups of agents, defined by an API schema or by function details."""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import carrier, mapping, number, text

from .description import Description, Judgement, Trigger
from .http import http_facts, judged

__all__ = ["BedrockAgent"]


class BedrockAgent(Trigger):
    """An agent calls a tool. A parent can be in the attributes of its session, or of its prompt.

    https://docs.aws.amazon.com/bedrock/latest/userguide/agents-lambda.html; the names are those of
    https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-agent-spans/
    """

    source = "bedrock_agent"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        found = mapping(event)
        return "actionGroup" in found and "agent" in found

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        found = mapping(event)
        agent = mapping(found.get("agent"))
        function = text(found.get("function"))
        # The path is a template; what stands in its place is in the parameters.
        called, facts = http_facts(found.get("httpMethod"), text(found.get("apiPath")), None)
        facts.update({
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.tool.name": function or called,
            "gen_ai.agent.id": text(agent.get("id")),
            "gen_ai.agent.name": text(agent.get("name")),
            "gen_ai.agent.version": text(agent.get("version")),
            "gen_ai.conversation.id": text(found.get("sessionId")),
            "aws.bedrock.agent.alias": text(agent.get("alias")),
            "aws.bedrock.action_group": text(found.get("actionGroup")),
        })
        own = carrier(found.get("promptSessionAttributes")) or carrier(found.get("sessionAttributes"))
        return cls.said(facts, name=called or function, carriers=(own,))

    @classmethod
    def judge(cls, description: Description, result: Any) -> Judgement:
        """``REPROMPT`` asks the model to try again and is no error."""
        response = mapping(mapping(result).get("response"))
        if "functionResponse" not in response:
            return judged(number(response.get("httpStatusCode")))
        state = text(mapping(response["functionResponse"]).get("responseState"))
        if state is None:
            return Judgement()
        error = "the action failed: responseState is FAILURE" if state == "FAILURE" else None
        return Judgement(error, {"aws.bedrock.response_state": state})
