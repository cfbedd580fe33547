"""The descriptions of recorded events of other AWS services, and of unknown events."""

from __future__ import annotations

import pytest
from recorded_events import TRACED, arn, recorded

from trace_guard_lambda.triggers import Description, describe

EXPECTED = {
    "appsync": Description(
        name="Query.ask",
        trigger="http",
        metadata={
            "aws.appsync.field": "ask",
            "aws.appsync.parent_type": "Query",
            "aws.lambda.event_source.type": "appsync",
        },
        carriers=(TRACED,),
        source="appsync",
    ),
    "appsync_amplify": Description(
        name="Mutation.escalate",
        trigger="http",
        metadata={
            "aws.appsync.field": "escalate",
            "aws.appsync.parent_type": "Mutation",
            "aws.lambda.event_source.type": "appsync",
        },
        source="appsync",
    ),
    "appsync_batch": Description(
        name="Ticket.summary",
        trigger="http",
        metadata={
            "aws.appsync.batch_size": 2,
            "aws.appsync.field": "summary",
            "aws.appsync.parent_type": "Ticket",
            "aws.lambda.event_source.type": "appsync_batch",
        },
        carriers=(TRACED, TRACED,),
        source="appsync_batch",
        records=2,
    ),
    "appsync_events_publish": Description(
        name="tickets publish",
        trigger="pubsub",
        metadata={
            "aws.appsync.operation": "publish",
            "aws.lambda.event_source.type": "appsync_events",
            "messaging.batch.message_count": 2,
            "messaging.destination.name": "/tickets/81524",
            "messaging.destination.template": "/tickets/*",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_appsync",
        },
        source="appsync_events",
        records=2,
    ),
    "appsync_events_subscribe": Description(
        name="tickets subscribe",
        trigger="pubsub",
        metadata={
            "aws.appsync.operation": "subscribe",
            "aws.lambda.event_source.type": "appsync_events",
            "messaging.destination.name": "/tickets/81524",
            "messaging.destination.template": "/tickets/*",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_appsync",
        },
        source="appsync_events",
    ),
    "bedrock_agent_api": Description(
        name="POST /claims/{claimId}/documents",
        trigger="other",
        metadata={
            "aws.bedrock.action_group": "Claims",
            "aws.bedrock.agent.alias": "LIVE",
            "aws.lambda.event_source.type": "bedrock_agent",
            "gen_ai.agent.id": "Q1W2E3R4T5",
            "gen_ai.agent.name": "claims-agent",
            "gen_ai.agent.version": "7",
            "gen_ai.conversation.id": "210987654321042",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.tool.name": "POST /claims/{claimId}/documents",
            "http.request.method": "POST",
            "http.route": "/claims/{claimId}/documents",
        },
        carriers=(TRACED,),
        source="bedrock_agent",
    ),
    "bedrock_agent_function": Description(
        name="openClaim",
        trigger="other",
        metadata={
            "aws.bedrock.action_group": "Claims",
            "aws.bedrock.agent.alias": "LIVE",
            "aws.lambda.event_source.type": "bedrock_agent",
            "gen_ai.agent.id": "Q1W2E3R4T5",
            "gen_ai.agent.name": "claims-agent",
            "gen_ai.agent.version": "7",
            "gen_ai.conversation.id": "210987654321042",
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.provider.name": "aws.bedrock",
            "gen_ai.tool.name": "openClaim",
        },
        source="bedrock_agent",
    ),
    "cloudwatch_logs": Description(
        name="/aws/lambda/checkout process",
        trigger="pubsub",
        metadata={
            "aws.lambda.event_source.type": "cloudwatch_logs",
            "aws.log.group.names": ["/aws/lambda/checkout"],
            "aws.log.stream.names": ["2025/10/16/[$LATEST]0a1b2c3d4e5f"],
            "messaging.destination.name": "/aws/lambda/checkout",
            "messaging.destination.subscription.name": "errors-to-triage",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.system": "aws_cloudwatch_logs",
        },
        source="cloudwatch_logs",
    ),
    "cognito_pre_sign_up": Description(
        name="PreSignUp_SignUp",
        trigger="other",
        metadata={
            "aws.cognito.client_id": "5u4t3s2r1q0p9o8n7m6l",
            "aws.cognito.trigger_source": "PreSignUp_SignUp",
            "aws.cognito.user_pool_id": "eu-central-1_Xa1Yb2Zc3",
            "aws.lambda.event_source.type": "cognito",
        },
        carriers=(TRACED,),
        source="cognito",
    ),
    "cognito_pre_token_generation": Description(
        name="TokenGeneration_Authentication",
        trigger="other",
        metadata={
            "aws.cognito.client_id": "5u4t3s2r1q0p9o8n7m6l",
            "aws.cognito.trigger_source": "TokenGeneration_Authentication",
            "aws.cognito.user_pool_id": "eu-central-1_Xa1Yb2Zc3",
            "aws.lambda.event_source.type": "cognito",
        },
        source="cognito",
    ),
    "direct": Description(
        trigger="other",
        carriers=(TRACED,),
        source="other",
    ),
    "s3": Description(
        name="acme-documents ObjectCreated:Put",
        trigger="datasource",
        metadata={
            "aws.extended_request_id": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD",
            "aws.lambda.event_source.arn": "arn:aws:s3:::acme-documents",
            "aws.lambda.event_source.type": "s3",
            "aws.request_id": "C3D13FE58DE4C810",
            "aws.s3.bucket": "acme-documents",
            "aws.s3.event_name": "ObjectCreated:Put",
            "aws.s3.key": "inbox/offer 2025 (final).pdf",
            "faas.document.collection": "acme-documents",
            "faas.document.name": "inbox/offer 2025 (final).pdf",
            "faas.document.operation": "insert",
            "faas.document.time": "2025-10-16T09:58:02.114Z",
        },
        source="s3",
        records=1,
    ),
    "s3_delete": Description(
        name="acme-documents ObjectRemoved:Delete",
        trigger="datasource",
        metadata={
            "aws.extended_request_id": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD",
            "aws.lambda.event_source.arn": "arn:aws:s3:::acme-documents",
            "aws.lambda.event_source.type": "s3",
            "aws.request_id": "C3D13FE58DE4C810",
            "aws.s3.bucket": "acme-documents",
            "aws.s3.event_name": "ObjectRemoved:Delete",
            "aws.s3.key": "inbox/old.pdf",
            "faas.document.collection": "acme-documents",
            "faas.document.name": "inbox/old.pdf",
            "faas.document.operation": "delete",
            "faas.document.time": "2025-10-16T09:58:02.114Z",
        },
        source="s3",
        records=1,
    ),
    "step_functions_merged": Description(
        name="refund JudgeClaim",
        trigger="other",
        metadata={
            "aws.lambda.event_source.type": "step_functions",
            "aws.step_functions.execution.arn": arn("states", "execution:refund:7c0e1f2a-3b4c-4d5e-8f90-a1b2c3d4e5f6"),
            "aws.step_functions.state.name": "JudgeClaim",
            "aws.step_functions.state.retry_count": 2,
            "aws.step_functions.state_machine.arn": arn("states", "stateMachine:refund"),
        },
        carriers=(TRACED,),
        source="step_functions",
    ),
    "step_functions_nested": Description(
        name="refund JudgeClaim",
        trigger="other",
        metadata={
            "aws.lambda.event_source.type": "step_functions",
            "aws.step_functions.execution.arn": arn("states", "execution:refund:7c0e1f2a-3b4c-4d5e-8f90-a1b2c3d4e5f6"),
            "aws.step_functions.execution.redrive_count": 1,
            "aws.step_functions.state.name": "JudgeClaim",
            "aws.step_functions.state.retry_count": 2,
            "aws.step_functions.state_machine.arn": arn("states", "stateMachine:refund"),
        },
        source="step_functions",
    ),
    "warm_up": Description(
        trigger="other",
        source="other",
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]
