"""The descriptions of recorded events of CloudFormation, CloudWatch, Config, developer tools and Secrets Manager."""

from __future__ import annotations

import pytest
from recorded_events import arn, recorded

from trace_guard_lambda.triggers import Description, describe

STACK = arn("cloudformation", "stack/support-bot/6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b")

EXPECTED = {
    "cloudformation_create": Description(
        name="Custom::VectorIndex Create",
        trigger="other",
        metadata={
            "aws.cloudformation.logical_resource_id": "VectorIndex",
            "aws.cloudformation.request_type": "Create",
            "aws.cloudformation.resource_type": "Custom::VectorIndex",
            "aws.cloudformation.stack.arn": STACK,
            "aws.lambda.event_source.type": "cloudformation",
            "aws.request_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
        },
        source="cloudformation",
    ),
    "cloudformation_update": Description(
        name="Custom::VectorIndex Update",
        trigger="other",
        metadata={
            "aws.cloudformation.logical_resource_id": "VectorIndex",
            "aws.cloudformation.physical_resource_id": "vector-index-1",
            "aws.cloudformation.request_type": "Update",
            "aws.cloudformation.resource_type": "Custom::VectorIndex",
            "aws.cloudformation.stack.arn": STACK,
            "aws.lambda.event_source.type": "cloudformation",
            "aws.request_id": "6b1d2f3a-4c5e-4f60-8a7b-9c0d1e2f3a4b",
        },
        source="cloudformation",
    ),
    "cloudwatch_alarm": Description(
        name="answers-are-slow ALARM",
        trigger="pubsub",
        metadata={
            "aws.cloudwatch.alarm.name": "answers-are-slow",
            "aws.cloudwatch.alarm.previous_state": "OK",
            "aws.cloudwatch.alarm.state": "ALARM",
            "aws.lambda.event_source.arn": arn("cloudwatch", "alarm:answers-are-slow"),
            "aws.lambda.event_source.type": "cloudwatch_alarm",
            "faas.time": "2025-10-16T09:58:02.114+0000",
        },
        source="cloudwatch_alarm",
    ),
    "cloudwatch_alarm_composite": Description(
        name="bot-is-down ALARM",
        trigger="pubsub",
        metadata={
            "aws.cloudwatch.alarm.name": "bot-is-down",
            "aws.cloudwatch.alarm.previous_state": "OK",
            "aws.cloudwatch.alarm.state": "ALARM",
            "aws.lambda.event_source.arn": arn("cloudwatch", "alarm:bot-is-down"),
            "aws.lambda.event_source.type": "cloudwatch_alarm",
            "faas.time": "2025-10-16T09:58:02.114+0000",
        },
        source="cloudwatch_alarm",
    ),
    "cloudwatch_dashboard": Description(
        name="support-bot widget",
        trigger="http",
        metadata={
            "aws.cloudwatch.dashboard.name": "support-bot",
            "aws.cloudwatch.widget.id": "widget-16",
            "aws.lambda.event_source.type": "cloudwatch_dashboard",
        },
        source="cloudwatch_dashboard",
    ),
    "codecommit": Description(
        name="prompts evaluate",
        trigger="datasource",
        metadata={
            "aws.codecommit.event_name": "ReferenceChanges",
            "aws.codecommit.trigger_name": "evaluate",
            "aws.lambda.event_source.arn": arn("codecommit", "prompts"),
            "aws.lambda.event_source.type": "codecommit",
            "faas.document.collection": "prompts",
            "vcs.ref.head.revision": "5c4ef1049f1d27deadbeeff313e0730018be182b",
        },
        source="codecommit",
        records=1,
    ),
    "codedeploy": Description(
        name="CodeDeploy hook",
        trigger="other",
        metadata={
            "aws.codedeploy.deployment_id": "d-A1B2C3D4E",
            "aws.lambda.event_source.type": "codedeploy",
        },
        source="codedeploy",
    ),
    "codepipeline": Description(
        name="CodePipeline job",
        trigger="other",
        metadata={
            "aws.codepipeline.job_id": "f0e1d2c3-b4a5-4968-8776-655443322110",
            "aws.lambda.event_source.type": "codepipeline",
        },
        source="codepipeline",
    ),
    "config_change": Description(
        name="buckets-are-private ConfigurationItemChangeNotification",
        trigger="other",
        metadata={
            "aws.config.message_type": "ConfigurationItemChangeNotification",
            "aws.config.resource_id": "acme-documents",
            "aws.config.resource_type": "AWS::S3::Bucket",
            "aws.config.rule.id": "config-rule-0a1b2c",
            "aws.config.rule.name": "buckets-are-private",
            "aws.lambda.event_source.arn": arn("config", "config-rule/config-rule-0a1b2c"),
            "aws.lambda.event_source.type": "config",
        },
        source="config",
    ),
    "config_oversized": Description(
        name="buckets-are-private OversizedConfigurationItemChangeNotification",
        trigger="other",
        metadata={
            "aws.config.message_type": "OversizedConfigurationItemChangeNotification",
            "aws.config.resource_id": "acme-documents",
            "aws.config.resource_type": "AWS::S3::Bucket",
            "aws.config.rule.id": "config-rule-0a1b2c",
            "aws.config.rule.name": "buckets-are-private",
            "aws.lambda.event_source.arn": arn("config", "config-rule/config-rule-0a1b2c"),
            "aws.lambda.event_source.type": "config",
        },
        source="config",
    ),
    "config_scheduled": Description(
        name="buckets-are-private ScheduledNotification",
        trigger="timer",
        metadata={
            "aws.config.message_type": "ScheduledNotification",
            "aws.config.rule.id": "config-rule-0a1b2c",
            "aws.config.rule.name": "buckets-are-private",
            "aws.lambda.event_source.arn": arn("config", "config-rule/config-rule-0a1b2c"),
            "aws.lambda.event_source.type": "config",
        },
        source="config",
    ),
    "secrets_manager": Description(
        name="rotation createSecret",
        trigger="other",
        metadata={
            "aws.lambda.event_source.arn": arn("secretsmanager", "secret:model-key-a1b2c3"),
            "aws.lambda.event_source.type": "secrets_manager",
            "aws.secretsmanager.rotation_step": "createSecret",
            "aws.secretsmanager.secret.arn": arn("secretsmanager", "secret:model-key-a1b2c3"),
        },
        source="secrets_manager",
    ),
}


@pytest.mark.parametrize("event", EXPECTED)
def test_an_event_is_described(event: str) -> None:
    """Each event gives exactly its name, trigger, ids and trace context."""
    assert describe(recorded(event)) == EXPECTED[event]
