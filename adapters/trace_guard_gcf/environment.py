"""What the environment says of an invocation, in OpenTelemetry's FaaS and cloud terms.

The terms: https://opentelemetry.io/docs/specs/semconv/attributes-registry/faas/ and ``cloud``. The variables:
https://cloud.google.com/run/docs/container-contract#env-vars and
https://cloud.google.com/functions/docs/configuring/env-var#runtime_environment_variables_set_automatically. The
region and the instance's id are with the metadata server only, and nothing here waits for the network; where a
variable has them, as users may set one, it is read.
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


# One for each process: what gunicorn imports in its master, it serves in children of that.
_calls = itertools.count()


def facts() -> dict[str, Any]:
    """Metadata for the root span; what is not known is left out. To be called once for each invocation, as it tells
    the first."""
    function = _first("FUNCTION_TARGET", "FUNCTION_NAME")
    service = os.environ.get("K_SERVICE")
    found: dict[str, Any] = {
        "faas.name": service or function,
        "faas.version": os.environ.get("K_REVISION"),
        "faas.coldstart": next(_calls) == 0,
    }
    if service or os.environ.get("FUNCTION_NAME"):
        # The framework sets the target wherever it runs, the platform alone the rest.
        found |= {
            "cloud.provider": "gcp",
            "cloud.platform": "gcp_cloud_functions" if function else "gcp_cloud_run",
            "cloud.region": _first(*_REGIONS),
            "cloud.account.id": _first(*_PROJECTS),
        }
    return {key: value for key, value in found.items() if value not in (None, "")}


def function_name(name: str) -> str:
    """What a function is known by: as it is deployed if it is what the service serves, else as in the code."""
    return os.environ.get("K_SERVICE") or name if os.environ.get("FUNCTION_TARGET") == name else name


def deadline() -> Deadline | None:
    """When the platform will give up a request that begins now; None if it does not say.

    https://cloud.google.com/run/docs/configuring/request-timeout
    """
    try:
        seconds = float(os.environ.get("CLOUD_RUN_TIMEOUT_SECONDS") or 0)
    except ValueError:
        return None
    return Deadline.after(seconds) if math.isfinite(seconds) and seconds > 0 else None


def _first(*variables: str) -> str | None:
    return next((os.environ[one] for one in variables if os.environ.get(one)), None)
