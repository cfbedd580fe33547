"""The descriptions of recorded events of Cognito's triggers."""

from __future__ import annotations

import pytest
from recorded_events import recorded

from trace_guard_lambda.triggers import Description, describe

STEPS = {
    "cognito_create_auth_challenge": "CreateAuthChallenge_Authentication",
    "cognito_custom_email_sender": "CustomEmailSender_ForgotPassword",
    "cognito_custom_message": "CustomMessage_ForgotPassword",
    "cognito_custom_sms_sender": "CustomSMSSender_SignUp",
    "cognito_define_auth_challenge": "DefineAuthChallenge_Authentication",
    "cognito_inbound_federation": "InboundFederation_ExternalProvider",
    "cognito_post_authentication": "PostAuthentication_Authentication",
    "cognito_post_confirmation": "PostConfirmation_ConfirmSignUp",
    "cognito_pre_authentication": "PreAuthentication_Authentication",
    "cognito_pre_token_generation_v2": "TokenGeneration_HostedAuth",
    "cognito_pre_token_generation_v3": "TokenGeneration_ClientCredentials",
    "cognito_user_migration": "UserMigration_Authentication",
    "cognito_verify_auth_challenge": "VerifyAuthChallengeResponse_Authentication",
}


@pytest.mark.parametrize("event", STEPS)
def test_an_event_is_described(event: str) -> None:
    """Each event is named after its step, and has the ids of the pool and the client, but no user."""
    assert describe(recorded(event)) == Description(
        name=STEPS[event],
        trigger="other",
        metadata={
            "aws.cognito.client_id": "5u4t3s2r1q0p9o8n7m6l",
            "aws.cognito.trigger_source": STEPS[event],
            "aws.cognito.user_pool_id": "eu-central-1_Xa1Yb2Zc3",
            "aws.lambda.event_source.type": "cognito",
        },
        source="cognito",
    )
