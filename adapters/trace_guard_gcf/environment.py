"""The metadata of a service from its environment, in OpenTelemetry's FaaS and cloud terms.

The terms: https://opentelemetry.io/docs/specs/semconv/attributes-registry/faas/ and ``cloud``. The variables:
https://cloud.google.com/run/docs/container-contract#env-vars and
https://cloud.google.com/functions/docs/configuring/env-var#runtime_environment_variables_set_automatically. Only the
metadata server has the instance's id and the region. Nothing here waits for the network, so the id is left out, and the
region is read from a variable that users may set.
"""

from __future__ import annotations

import itertools
import math
import os
from typing import Any

from trace_guard import Deadline

__all__ = ["deadline", "facts", "function_name"]

_REGIONS = ("FUNCTION_REGION", "GOOGLE_CLOUD_REGION")
_PROJECTS = ("GOOGLE_CLOUD_PROJECT", "GCP_PROJECT")


# One counter for each process, as gunicorn imports the module in its master and serves in forked children.
_calls = itertools.count()


def facts() -> dict[str, Any]:
    """Metadata for the root span, without unknown facts. Call it once for each invocation: the first call is the cold
    start."""
    function = _first("FUNCTION_TARGET", "FUNCTION_NAME")
    service = os.environ.get("K_SERVICE")
    metadata: dict[str, Any] = {
        "faas.name": service or function,
        "faas.version": os.environ.get("K_REVISION"),
        "faas.coldstart": next(_calls) == 0,
    }
    if service or os.environ.get("FUNCTION_NAME"):
        # Only the platform sets these variables. The framework sets FUNCTION_TARGET everywhere.
        metadata |= {
            "cloud.provider": "gcp",
            "cloud.platform": "gcp_cloud_functions" if function else "gcp_cloud_run",
            "cloud.region": _first(*_REGIONS),
            "cloud.account.id": _first(*_PROJECTS),
        }
    return {key: value for key, value in metadata.items() if value not in (None, "")}


def function_name(name: str) -> str:
    """The service's name for the function that it serves; for other functions, their name in the code."""
    return os.environ.get("K_SERVICE") or name if os.environ.get("FUNCTION_TARGET") == name else name


def deadline() -> Deadline | None:
    """When the platform will end a request that begins now; None if the timeout is unknown.

    https://cloud.google.com/run/docs/configuring/request-timeout
    """
    try:
        seconds = float(os.environ.get("CLOUD_RUN_TIMEOUT_SECONDS") or 0)
    except ValueError:
        return None
    return Deadline.after(seconds) if math.isfinite(seconds) and seconds > 0 else None


def _first(*variables: str) -> str | None:
    return next((os.environ[name] for name in variables if os.environ.get(name)), None)
