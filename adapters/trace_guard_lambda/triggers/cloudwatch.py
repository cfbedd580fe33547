"""CloudWatch: alarms, and custom widgets of dashboards."""

from __future__ import annotations

from typing import Any

from trace_guard.invocation.reading import mapping, text

from .description import Description, Trigger
from .reading import ARN

__all__ = ["Alarm", "DashboardWidget"]

_STATES = ("OK", "ALARM", "INSUFFICIENT_DATA")


class Alarm(Trigger):
    """An alarm whose state has changed and whose action is the function.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-actions-Lambda.html
    """

    source = "cloudwatch_alarm"
    trigger = "pubsub"
    keys = ("alarmArn", "alarmData")

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        fields = mapping(event)
        data = mapping(fields.get("alarmData"))
        alarm, state = text(data.get("alarmName")), _state(data.get("state"))
        facts = {
            "faas.time": text(fields.get("time")),
            "aws.cloudwatch.alarm.name": alarm,
            "aws.cloudwatch.alarm.state": state,
            "aws.cloudwatch.alarm.previous_state": _state(data.get("previousState")),
            ARN: text(fields.get("alarmArn")),
        }
        return cls.description(facts, name=" ".join(part for part in (alarm, state) if part) or None)


def _state(state: Any) -> str | None:
    """The value of a state. Its reason is left out, because it quotes data."""
    value = text(mapping(state).get("value"))
    return value if value in _STATES else None


class DashboardWidget(Trigger):
    """The content of a custom widget, asked for by somebody who looks at the dashboard.

    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/add_custom_widget_dashboard.html
    """

    source = "cloudwatch_dashboard"
    trigger = "http"

    @classmethod
    def infer(cls, event: Any, context: Any) -> bool:
        widget = mapping(mapping(event).get("widgetContext"))
        return "dashboardName" in widget and "widgetId" in widget

    @classmethod
    def describe(cls, event: Any, context: Any) -> Description:
        widget = mapping(mapping(event).get("widgetContext"))
        dashboard = text(widget.get("dashboardName"))
        facts = {
            "aws.cloudwatch.dashboard.name": dashboard,
            "aws.cloudwatch.widget.id": text(widget.get("widgetId")),
        }
        return cls.description(facts, name=f"{dashboard} widget" if dashboard else None)
