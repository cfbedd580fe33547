"""The ``runtime_env`` for workers on other machines, which do not have the driver's environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trace_guard import Guard, default_guard
from trace_guard.contain import contain

__all__ = ["runtime_env", "start_worker"]


def runtime_env(
    guard: Guard | None = None,
    *,
    key: bool = False,
    env_vars: Mapping[str, str] | None = None,
    **more: Any,
) -> dict[str, Any]:
    """The ``runtime_env`` that makes all workers of a cluster deliver to the driver's destination::

        ray.init(runtime_env=runtime_env(pip=["trace-guard"]))

    Workers that Ray starts on the driver's machine have its environment anyway. A setup hook starts the guard before a
    worker's first task, which then need not wait for it.

    Args:
        guard: whose settings are sent; by default the process's own.
        key: whether to send the Braintrust API key too. Ray stores it readable with the job and shows it in its
            dashboard. So by default it is not sent; set it in the environment of the nodes.
        env_vars, more: fields of the ``runtime_env``, which override those made here:
            https://docs.ray.io/en/latest/ray-core/handling-dependencies.html#api-reference
    """
    settings = (guard or default_guard()).settings
    variables = {
        "TRACE_GUARD_PROJECT": settings.project,
        "TRACE_GUARD_PROJECT_ID": settings.project_id,
        "TRACE_GUARD_BACKEND": settings.backend,
        "BRAINTRUST_API_URL": settings.api_url,
        "BRAINTRUST_APP_URL": settings.app_url,
        "BRAINTRUST_ORG_NAME": settings.org_name,
        "BRAINTRUST_API_KEY": settings.api_key if key else None,
    }
    known = {name: value for name, value in variables.items() if value}
    return {
        "worker_process_setup_hook": f"{__name__}.{start_worker.__name__}", **more,
        "env_vars": {**known, **(env_vars or {})},
    }


def start_worker() -> None:
    """Start the guard. Ray calls this in each worker before its first task."""
    with contain("start"):
        default_guard().start()
