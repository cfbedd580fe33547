"""Bedrock: action groups of agents, defined by an API schema or by function details."""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import carrier, mapping, number, text

from .description import Description, Judgement, Trigger
from .http import http_facts, judged

__all__ = ["BedrockAgent"]


class BedrockAgent(Trigger):
    """An agent's call of a tool. A parent can be in the attributes of the session or of the prompt.

    https://docs.aws.amazon.com/bedrock/latest/userguide/agents-lambda.html

    Attributes: https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-agent-spans/
    """

    source = "bedrock_agent"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        fields = mapping(event)
        return "actionGroup" in fields and "agent" in fields

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        agent = mapping(fields.get("agent"))
        function = text(fields.get("function"))
        # The path is a template, whose values are in the parameters.
        called, facts = http_facts(fields.get("httpMethod"), text(fields.get("apiPath")), None)
        facts.update({
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.tool.name": function or called,
            "gen_ai.agent.id": text(agent.get("id")),
            "gen_ai.agent.name": text(agent.get("name")),
            "gen_ai.agent.version": text(agent.get("version")),
            "gen_ai.conversation.id": text(fields.get("sessionId")),
            "aws.bedrock.agent.alias": text(agent.get("alias")),
            "aws.bedrock.action_group": text(fields.get("actionGroup")),
        })
        own = carrier(fields.get("promptSessionAttributes")) or carrier(fields.get("sessionAttributes"))
        return cls.description(facts, name=called or function, carriers=(own,))

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
