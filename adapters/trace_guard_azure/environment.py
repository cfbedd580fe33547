"""The metadata of a function app from its environment, in OpenTelemetry's FaaS and cloud terms.

The terms: https://opentelemetry.io/docs/specs/semconv/attributes-registry/faas/ and ``cloud``. The variables:
https://learn.microsoft.com/azure/app-service/reference-app-settings
"""

from __future__ import annotations

import itertools
import os
from typing import Any

__all__ = ["facts", "is_worker"]

_calls = itertools.count()


def is_worker() -> bool:
    """True in a Python worker of the Functions host."""
    return os.environ.get("FUNCTIONS_WORKER_RUNTIME", "").lower() == "python"


def facts(function: str) -> dict[str, Any]:
    """Metadata for the root span, without unknown facts. Call it once for each invocation: the first call is the cold
    start.

    Args:
        function: the name under which it is registered.
    """
    app = os.environ.get("WEBSITE_SITE_NAME")
    metadata: dict[str, Any] = {
        # OpenTelemetry's form for Azure, where an app has several functions.
        "faas.name": f"{app}/{function}" if app else function,
        "faas.instance": os.environ.get("WEBSITE_INSTANCE_ID") or os.environ.get("CONTAINER_NAME"),
        "faas.coldstart": next(_calls) == 0,
        "faas.max_memory": _memory(),
        "cloud.provider": "azure",
        "cloud.platform": "azure_functions",
        "cloud.region": os.environ.get("REGION_NAME"),
        "cloud.account.id": _subscription(),
        "cloud.resource_id": _resource_id(app, function),
        "azure.functions.name": function,
        "azure.functions.host_version": os.environ.get("FUNCTIONS_EXTENSION_VERSION"),
    }
    return {key: value for key, value in metadata.items() if value not in (None, "")}


def _subscription() -> str | None:
    """The subscription's id. ``WEBSITE_OWNER_NAME`` is ``SUBSCRIPTION+GROUP-REGIONwebspace``."""
    subscription, plus, _ = os.environ.get("WEBSITE_OWNER_NAME", "").partition("+")
    return subscription if plus and subscription else None


def _resource_id(app: str | None, function: str) -> str | None:
    """The resource id of the function, not of the app: https://opentelemetry.io/docs/specs/semconv/resource/faas/"""
    subscription, group = _subscription(), os.environ.get("WEBSITE_RESOURCE_GROUP")
    if not (app and subscription and group):
        return None
    return (
        f"/subscriptions/{subscription}/resourceGroups/{group}"
        f"/providers/Microsoft.Web/sites/{app}/functions/{function}"
    )


def _memory() -> int | None:
    """The memory limit in bytes."""
    megabytes = os.environ.get("WEBSITE_MEMORY_LIMIT_MB", "")
    return int(megabytes) * 1024 * 1024 if megabytes.isascii() and megabytes.isdigit() else None
