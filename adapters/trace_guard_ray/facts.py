"""The metadata of the task that runs in this process. It is read from Ray without waiting.

The runtime context: https://docs.ray.io/en/latest/ray-core/api/doc/ray.runtime_context.RuntimeContext.html
"""

from __future__ import annotations

import sys
from typing import Any

from trace_guard.contain import contain

__all__ = ["facts", "in_worker"]


_of_worker: dict[str, Any] = {}
"""The metadata that all tasks of this process share; empty until it is known to be a worker."""


def in_worker() -> bool:
    """True in a process that Ray has started for tasks and actors; False in the driver and without Ray."""
    if _of_worker:
        return True
    ray: Any = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    context = ray.get_runtime_context()
    if context.worker.mode != ray.WORKER_MODE:
        return False
    _of_worker.update({
        "ray.job_id": context.get_job_id(), "ray.node_id": context.get_node_id(),
        "ray.worker_id": context.get_worker_id(),
    })
    return True


def facts() -> dict[str, Any]:
    """Metadata for the span of the task that runs here, without unknown facts.

    ``ray.attempt`` counts from 0. Each retry is a new attempt with a span of its own. For an actor's ``__init__`` it
    counts the restarts.
    """
    metadata: dict[str, Any] = {}
    with contain("describe a task of Ray"):
        if in_worker():
            context = sys.modules["ray"].get_runtime_context()
            actor = context.get_actor_id()
            metadata = {
                **_of_worker,
                "ray.task_id": context.get_task_id(),
                "ray.actor_id": actor,
                "ray.actor_name": context.get_actor_name() if actor else None,
                "ray.attempt": _attempt(context),
            }
    return {key: value for key, value in metadata.items() if value not in (None, "")}


def _attempt(context: Any) -> int | None:
    """The number of the attempt. Ray has no public function for it."""
    number = getattr(context.worker.core_worker, "get_current_task_attempt_number", None)
    return int(number()) if number is not None else None
