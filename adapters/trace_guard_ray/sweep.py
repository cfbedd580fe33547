"""Closes the spans that dead workers left open on every node, and delivers their rows, from their journals.

This process does so for its own node, and a small Ray task does so for each other node. A living worker does the same
for its neighbours. So this is needed on nodes without other workers and at the end of the program.
"""

from __future__ import annotations

import atexit
import math
import sys
import threading
import time
from typing import Any

from trace_guard import Deadline, Guard, default_guard, recover
from trace_guard.contain import contain
from trace_guard.runtime.pipeline import Pipeline
from trace_guard.system.clock import monotonic

from .connection import ray_connection
from .facts import in_worker
from .grouping import GROUP_SECONDS
from .lost_nodes import lost_node_closer

__all__ = ["orphan_sweeper"]

# Ray reports a death a moment before the process is gone and the lock on its journal is released.
_AGAIN_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_LOCAL_SECONDS = 1.0
_REMOTE_SECONDS = 10.0


class OrphanSweeper:
    """Recovers the journals of dead workers. It belongs to one process."""

    def __init__(self) -> None:
        self._guards: dict[object, Guard] = {}
        self._until = self._look_at = -math.inf
        self._is_asked = False
        self._prepared = False
        self._lock = threading.Lock()

    def use(self, guard: Guard) -> None:
        """Recover journals in the directory of this guard too."""
        self._guards.setdefault(guard.pipeline, guard)

    def prepare(self) -> None:
        """Recover on all nodes before a driver ends. Ray still runs then: it registers its exit handler when it is
        imported, so its handler runs after this one."""
        with self._lock:
            if not self._prepared and not in_worker():
                atexit.register(self._at_exit)
            self._prepared = True

    def ask(self) -> None:
        """Recover on all nodes soon, because a worker has died."""
        self.look_on()
        self._look_at = -math.inf
        self._is_asked = True

    def look_on(self) -> None:
        """Keep checking this node for a while, because workers may die."""
        self._until = monotonic() + _AGAIN_SECONDS

    @property
    def is_looking(self) -> bool:
        """True while :meth:`go_on` may have work to do."""
        return monotonic() < self._until or lost_node_closer.is_looking

    def go_on(self) -> None:
        """Do the work that is due. Call it several times a second."""
        prompted, self._is_asked = self._is_asked, False
        now = monotonic()
        if self._look_at <= now < self._until:
            self._look_at = now + _LOOK_SECONDS
            with contain("close spans of dead workers"):
                for pipeline in self._pipelines:
                    pipeline.neighbours.recover(Deadline.after(_LOCAL_SECONDS))
        if prompted:
            with contain("close spans of dead workers on other nodes"), ray_connection.used() as is_running:
                if is_running:
                    _on_other_nodes(_REMOTE_SECONDS)
        with contain("close spans of lost nodes"):
            lost_node_closer.go_on(self._pipelines, prompted=prompted)

    def _at_exit(self) -> None:
        with contain("close spans of dead workers"):
            # Half of the exit timeout, because this process must still deliver its own rows.
            deadline = Deadline.after(max((each.settings.exit_timeout / 2 for each in self._pipelines), default=0.0))
            ray: Any = sys.modules.get("ray")
            if ray is not None and ray.is_initialized():
                tasks = _on_other_nodes(deadline.remaining)
                if tasks:
                    ray.wait(tasks, num_returns=len(tasks), timeout=deadline.remaining)
                with contain("close spans of lost nodes"):
                    lost_node_closer.finish(self._pipelines, deadline)
                # Workers write the last rows of a task a moment after its end.
                time.sleep(min(2 * GROUP_SECONDS, deadline.remaining))
            # This includes the journals of living workers, which Ray kills when the program ends.
            for pipeline in self._pipelines:
                recover(pipeline.settings, timeout=deadline.remaining)

    @property
    def _pipelines(self) -> list[Pipeline]:
        return [guard.pipeline for guard in list(self._guards.values())]


def _on_other_nodes(seconds: float) -> list[Any]:
    """Start a recovery on each other node. Returns the references of the tasks."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    look = ray.remote(num_cpus=0, max_retries=0)(recover_here)
    return [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(seconds)
        for node in ray.nodes() if node["Alive"] and node["NodeID"] != here
    ]


def recover_here(seconds: float) -> None:
    """A Ray task that recovers the journals on the disk of its node."""
    with contain("close spans of dead workers on this node"):
        recover(default_guard().settings, timeout=seconds)


orphan_sweeper = OrphanSweeper()
"""The sweeper of this process."""
