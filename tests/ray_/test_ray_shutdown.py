"""``ray.shutdown()`` in a program that goes on afterwards."""

from __future__ import annotations

from pathlib import Path

from support import Program, environment

from trace_guard.testing import BraintrustServer

SHUTTING_DOWN = """
import threading
import ray
from trace_guard import default_guard
from trace_guard_ray import guard_task, runtime_env, watch

is_looking, plain_wait = threading.Event(), ray.wait
def slow_wait(*args, **keywords):
    is_looking.set()
    time.sleep(0.3)
    return plain_wait(*args, **keywords)
ray.wait = slow_wait

@ray.remote
@guard_task
def endless():
    time.sleep(600)

for attempt in range(2):
    with default_guard().invocation("root"):
        ray.init(
            address="local", num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR",
            runtime_env=runtime_env(key=True),
        )
        for _ in range(20):
            endless.remote()
        is_looking.clear()
        is_looking.wait()
        ray.shutdown()
        say(ray.is_initialized(), len(watch.task_watcher))
    is_looking.clear()
    say(is_looking.wait(0.6), ray.is_initialized())
"""


def test_a_shutdown_while_tasks_are_watched(server: BraintrustServer, tmp_path: Path) -> None:
    """A shutdown during a look at the tasks neither ends the program nor starts Ray again, and leaves no reference."""
    with Program(SHUTTING_DOWN, environment(server, tmp_path)) as program:
        heard = [program.hears(60) for _ in range(4)]
        program.ends_well(60)
    assert heard == ["False 0", "False False"] * 2, program.stderr
