"""Lex: the dialog and fulfillment hooks of a bot.

https://docs.aws.amazon.com/lexv2/latest/dg/lambda-input-format.html and
https://docs.aws.amazon.com/lex/latest/dg/lambda-input-response-format.html
"""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import carrier, mapping, text

from .description import Description, Trigger

__all__ = ["Lex", "LexV1"]


class Lex(Trigger):
    """A turn of a conversation, in Lex V2. A parent can be in the attributes of the session or of the request."""

    source = "lex"
    keys = ("bot", "sessionState", "invocationSource")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        bot, state = mapping(fields.get("bot")), mapping(fields.get("sessionState"))
        facts = {
            "aws.lex.bot.alias_id": text(bot.get("aliasId")),
            "aws.lex.bot.id": text(bot.get("id")),
            "aws.lex.bot.locale": text(bot.get("localeId")),
            "aws.lex.bot.version": text(bot.get("version")),
            "gen_ai.conversation.id": text(fields.get("sessionId")),
        }
        return cls._turn(event, mapping(state.get("intent")), facts, state.get("sessionAttributes"))

    @classmethod
    def _turn(cls, event: Any, intent: Any, facts: dict[str, Any], session: Any) -> Description:
        fields = mapping(event)
        bot, name = text(mapping(fields.get("bot")).get("name")), text(intent.get("name"))
        facts.update({
            "aws.lex.bot.name": bot,
            "aws.lex.intent": name,
            "aws.lex.invocation_source": text(fields.get("invocationSource")),
        })
        own = carrier(fields.get("requestAttributes")) or carrier(session)
        return cls.description(facts, name=" ".join(part for part in (bot, name) if part) or None, carriers=(own,))


class LexV1(Lex):
    """A turn of a conversation, in Lex V1."""

    source = "lex_v1"
    keys = ("bot", "currentIntent", "invocationSource")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        bot = mapping(fields.get("bot"))
        facts: dict[str, Any] = {
            "aws.lex.bot.alias_id": text(bot.get("alias")), "aws.lex.bot.version": text(bot.get("version"))
        }
        return cls._turn(event, mapping(fields.get("currentIntent")), facts, fields.get("sessionAttributes"))
