"""The descriptions of recorded events of Connect and Lex."""

from __future__ import annotations

import pytest
from recorded_events import TRACED, arn, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "connect": Description(
        name="Connect contact flow",
        trigger="other",
        metadata={
            "aws.connect.channel": "VOICE",
            "aws.connect.contact_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "aws.connect.initial_contact_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
            "aws.connect.initiation_method": "INBOUND",
            "aws.connect.queue": "refunds",
            "aws.lambda.event_source.arn": arn("connect", "instance/6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b"),
            "aws.lambda.event_source.type": "connect",
        },
        carriers=(TRACED,),
        source="connect",
    ),
    "lex": Description(
        name="support RefundOrder",
        trigger="other",
        metadata={
            "aws.lambda.event_source.type": "lex",
            "aws.lex.bot.alias_id": "TSTALIASID",
            "aws.lex.bot.id": "B1O2T3",
            "aws.lex.bot.locale": "en_GB",
            "aws.lex.bot.name": "support",
            "aws.lex.bot.version": "3",
            "aws.lex.intent": "RefundOrder",
            "aws.lex.invocation_source": "FulfillmentCodeHook",
            "gen_ai.conversation.id": "session-81524",
        },
        carriers=(TRACED,),
        source="lex",
    ),
    "lex_v1": Description(
        name="support RefundOrder",
        trigger="other",
        metadata={
            "aws.lambda.event_source.type": "lex_v1",
            "aws.lex.bot.alias_id": "live",
            "aws.lex.bot.name": "support",
            "aws.lex.bot.version": "3",
            "aws.lex.intent": "RefundOrder",
            "aws.lex.invocation_source": "DialogCodeHook",
        },
        source="lex_v1",
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]
