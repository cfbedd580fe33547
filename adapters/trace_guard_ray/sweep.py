"""Closes and delivers what dead workers left behind, on every node: from their journals, which know what was open.

On the node of this process that is done here; on others by a small task of Ray's that is bound to the node. A worker
that lives does the same for its neighbours while it is at work, so that this is for nodes where nothing else runs, and
for the end of the program.
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

from .facts import in_worker
from .grouping import GROUP_SECONDS
from .lost_nodes import LOST_NODES

__all__ = ["SWEEP"]

# Ray tells of a death a moment before the process is gone, and with it the lock on its journal.
_AGAIN_SECONDS = 5.0
_LOOK_SECONDS = 0.5
_LOCAL_SECONDS = 1.0
_REMOTE_SECONDS = 10.0


class Sweep:
    """What is to be done about deaths, in this process."""

    def __init__(self) -> None:
        self._guards: dict[object, Guard] = {}
        self._until = self._look_at = -math.inf
        self._is_asked = False
        self._prepared = False
        self._lock = threading.Lock()

    def use(self, guard: Guard) -> None:
        """Look where this guard writes, too."""
        self._guards.setdefault(guard.pipeline, guard)

    def prepare(self) -> None:
        """See to it that a driver looks everywhere before it ends. While Ray is there: Ray's own exit handler is
        registered when it is imported, and so comes after this one."""
        with self._lock:
            if not self._prepared and not in_worker():
                atexit.register(self._at_exit)
            self._prepared = True

    def ask(self) -> None:
        """A worker has died somewhere."""
        self.look_on()
        self._look_at = -math.inf
        self._is_asked = True

    def look_on(self) -> None:
        """Workers may die from now on for a while."""
        self._until = time.monotonic() + _AGAIN_SECONDS

    @property
    def is_looking(self) -> bool:
        """True while there may be something to be done."""
        return time.monotonic() < self._until or LOST_NODES.is_looking

    def go_on(self) -> None:
        """Do what is to be done by now; called several times a second."""
        prompted, self._is_asked = self._is_asked, False
        now = time.monotonic()
        if self._look_at <= now < self._until:
            self._look_at = now + _LOOK_SECONDS
            with contain("close what a dead worker left open"):
                for pipeline in self._pipelines:
                    pipeline.recover(Deadline.after(_LOCAL_SECONDS))
        if prompted:
            with contain("have other nodes close what dead workers left open"):
                _on_other_nodes(_REMOTE_SECONDS)
        with contain("close what was open on lost nodes"):
            LOST_NODES.go_on(self._pipelines, prompted=prompted)

    def _at_exit(self) -> None:
        with contain("close what dead workers left open"):
            # Half of what an exit may take, as this process's own rows are yet to be delivered.
            deadline = Deadline.after(max((one.settings.exit_timeout / 2 for one in self._pipelines), default=0.0))
            ray: Any = sys.modules.get("ray")
            if ray is not None and ray.is_initialized():
                asked = _on_other_nodes(deadline.remaining)
                if asked:
                    ray.wait(asked, num_returns=len(asked), timeout=deadline.remaining)
                with contain("close what was open on lost nodes"):
                    LOST_NODES.finish(self._pipelines, deadline)
                # Workers that have just ended their last tasks are still to write down the rest of it.
                time.sleep(min(2 * GROUP_SECONDS, deadline.remaining))
            # What living workers have not delivered either: Ray kills them when the program ends.
            for pipeline in self._pipelines:
                recover(pipeline.settings, timeout=deadline.remaining)

    @property
    def _pipelines(self) -> list[Pipeline]:
        return [one.pipeline for one in list(self._guards.values())]


def _on_other_nodes(seconds: float) -> list[Any]:
    """Have each other node look at what is left on its disk; references to be waited for."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = ray.get_runtime_context().get_node_id()
    look = ray.remote(num_cpus=0, max_retries=0)(recover_here)
    return [
        look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)).remote(seconds)
        for node in ray.nodes() if node["Alive"] and node["NodeID"] != here
    ]


def recover_here(seconds: float) -> None:
    """A task: close and deliver what is left on the disk of its node."""
    with contain("close what dead workers left open on this node"):
        recover(default_guard().settings, timeout=seconds)


SWEEP = Sweep()
"""That of this process."""
