"""The recorded events, one file for each source and variant, and the trace context that some of them contain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

__all__ = ["CONTAINER", "EVENTS", "OTHER", "SECRET", "TRACED", "TRACEPARENT", "arn", "recorded"]

_FOLDER = Path(__file__).parent / "events"

EVENTS = sorted(path.stem for path in _FOLDER.glob("*.json"))
SECRET = "hunter2-never-to-be-seen"
"""Stands in the recorded events wherever a payload may hold a secret: headers, bodies, queries, claims, data."""
TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OTHER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
CONTAINER = "project_id:7d1c0f8e-5a55-4b0e-9a3c-1f2e3d4c5b6a"
TRACED = {"traceparent": TRACEPARENT, "baggage": f"braintrust.parent={CONTAINER}"}


def recorded(name: str) -> Any:
    """The event of that name, as a copy that the caller may change."""
    return json.loads((_FOLDER / f"{name}.json").read_text())


def arn(service: str, resource: str) -> str:
    """The ARN of a resource in the account and region of the recorded events."""
    return f"arn:aws:{service}:eu-central-1:210987654321:{resource}"
