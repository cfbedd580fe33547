"""Every event that Powertools has a data class for has a recorded event with a name."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module
from inspect import isclass

import pytest
from aws_lambda_powertools.utilities import data_classes
from aws_lambda_powertools.utilities.data_classes.common import DictWrapper
from recorded_events import EVENTS, recorded

from trace_guard_lambda.triggers import describe

SAMPLES = {
    "ALBEvent": "alb",
    "APIGatewayAuthorizerEventV2": "api_gateway_authorizer_http",
    "APIGatewayAuthorizerRequestEvent": "api_gateway_authorizer",
    "APIGatewayAuthorizerTokenEvent": "api_gateway_authorizer_token",
    "APIGatewayProxyEvent": "api_gateway_rest",
    "APIGatewayProxyEventV2": "api_gateway_http",
    "APIGatewayWebSocketEvent": "api_gateway_websocket_message",
    "AWSConfigRuleEvent": "config_change",
    "ActiveMQEvent": "activemq",
    "AppSyncAuthorizerEvent": "appsync_authorizer",
    "AppSyncResolverEvent": "appsync",
    "AppSyncResolverEventsEvent": "appsync_events_publish",
    "BedrockAgentEvent": "bedrock_agent_api",
    "BedrockAgentFunctionEvent": "bedrock_agent_function",
    "CloudFormationCustomResourceEvent": "cloudformation_create",
    "CloudWatchAlarmEvent": "cloudwatch_alarm",
    "CloudWatchDashboardCustomWidgetEvent": "cloudwatch_dashboard",
    "CloudWatchLogsEvent": "cloudwatch_logs",
    "CodeDeployLifecycleHookEvent": "codedeploy",
    "CodePipelineJobEvent": "codepipeline",
    "ConnectContactFlowEvent": "connect",
    "CreateAuthChallengeTriggerEvent": "cognito_create_auth_challenge",
    "CustomEmailSenderTriggerEvent": "cognito_custom_email_sender",
    "CustomMessageTriggerEvent": "cognito_custom_message",
    "CustomSMSSenderTriggerEvent": "cognito_custom_sms_sender",
    "DefineAuthChallengeTriggerEvent": "cognito_define_auth_challenge",
    "DynamoDBStreamEvent": "dynamodb",
    "EventBridgeEvent": "eventbridge",
    "IoTCoreAddOrDeleteFromThingGroupEvent": "iot_thing_group_hierarchy",
    "IoTCoreAddOrRemoveFromThingGroupEvent": "iot_thing_group_membership",
    "IoTCoreThingEvent": "iot_thing",
    "IoTCoreThingGroupEvent": "iot_thing_group",
    "IoTCoreThingTypeAssociationEvent": "iot_thing_type_association",
    "IoTCoreThingTypeEvent": "iot_thing_type",
    "KafkaEvent": "msk",
    "KinesisFirehoseEvent": "firehose_kinesis",
    "KinesisStreamEvent": "kinesis",
    "LambdaFunctionUrlEvent": "function_url",
    "PostAuthenticationTriggerEvent": "cognito_post_authentication",
    "PostConfirmationTriggerEvent": "cognito_post_confirmation",
    "PreAuthenticationTriggerEvent": "cognito_pre_authentication",
    "PreSignUpTriggerEvent": "cognito_pre_sign_up",
    "PreTokenGenerationTriggerEvent": "cognito_pre_token_generation",
    "PreTokenGenerationV2TriggerEvent": "cognito_pre_token_generation_v2",
    "RabbitMQEvent": "rabbitmq",
    "S3BatchOperationEvent": "s3_batch",
    "S3Event": "s3",
    "S3EventBridgeNotificationEvent": "s3_eventbridge",
    "S3ObjectLambdaEvent": "s3_object_lambda",
    "SESEvent": "ses",
    "SNSEvent": "sns",
    "SQSEvent": "sqs",
    "SecretsManagerEvent": "secrets_manager",
    "TransferFamilyAuthorizer": "transfer_authorizer",
    "UserMigrationTriggerEvent": "cognito_user_migration",
    "VPCLatticeEvent": "vpc_lattice_v1",
    "VPCLatticeEventV2": "vpc_lattice",
    "VerifyAuthChallengeResponseTriggerEvent": "cognito_verify_auth_challenge",
}
PARTS = {
    "APIGatewayEventAuthorizer", "BaseProxyEvent", "BaseTriggerEvent", "CloudWatchLogsLogEvent",
    "RequestContextV2Authorizer",
}
"""Base classes, and parts of events, whose names look like those of events."""


def event_classes() -> Iterator[str]:
    """The names of all data classes of whole events."""
    for found in pkgutil.walk_packages(data_classes.__path__, f"{data_classes.__name__}."):
        for name, value in vars(import_module(found.name)).items():
            if not isclass(value) or not issubclass(value, DictWrapper) or value.__module__ != found.name:
                continue
            if name.endswith(("Event", "EventV2", "Authorizer")) and name not in PARTS:
                yield name


def test_every_data_class_has_a_recorded_event() -> None:
    """A data class without a recorded event fails this test, also a class of a later Powertools version."""
    assert {*event_classes()} == {*SAMPLES}
    assert {*SAMPLES.values()} <= {*EVENTS}


@pytest.mark.parametrize("data_class", SAMPLES)
def test_the_event_of_a_data_class_has_a_name(data_class: str) -> None:
    """The event of each data class has a name, a source, and more metadata than the source."""
    description = describe(recorded(SAMPLES[data_class]))
    assert description.name
    assert description.source != "other"
    assert len(description.metadata) > 1
