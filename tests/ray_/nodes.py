"""The program under test: a driver of a cluster of three nodes on this machine, each with a disk of its own."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import braintrust
import ray
from ray.cluster_utils import Cluster
from ray_.cluster import ANSWER, appears

from trace_guard import default_guard
from trace_guard_ray import guard_task, runtime_env


def main(say: Callable[..., None], listen: Callable[[], str]) -> None:
    """Lose a worker on one node, then another node completely."""
    directory = Path(os.environ["TRACE_GUARD_DIR"]).parent
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    nodes = {
        name: cluster.add_node(resources={name: 1}, env_vars={"TRACE_GUARD_DIR": str(directory / name)}, wait=False)
        for name in ("near", "far")
    }
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False, runtime_env=runtime_env(key=True))
    with default_guard().invocation("driver"):
        on_far = works.options(resources={"far": 1}).remote("far", str(directory), dies=False)
        say(ANSWER, what_came_of(works.options(resources={"near": 1}).remote("near", str(directory), dies=True)))
        appears(f"{directory}/far.pid")
        say(ANSWER, "at work")
        assert listen() == "lose it"
        worker = int((directory / "far.pid").read_text())
        os.kill(worker, signal.SIGSTOP)
        shutil.rmtree(directory / "far")
        cluster.remove_node(nodes["far"], allow_graceful=False)
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        say(ANSWER, what_came_of(on_far))
        listen()
    say(ANSWER, "bye")


def what_came_of(reference: Any) -> str:
    try:
        return str(ray.get(reference))
    except ray.exceptions.RayError as error:
        return type(error).__name__


@ray.remote(max_retries=0)
@guard_task
def works(name: str, directory: str, *, dies: bool) -> None:
    braintrust.start_span(name=f"left open on {name}", set_current=True)
    braintrust.flush()  # rows in the SDK's queue are lost when a worker is killed
    if dies:
        os.kill(os.getpid(), signal.SIGKILL)
    Path(f"{directory}/{name}.new").write_text(str(os.getpid()))
    os.rename(f"{directory}/{name}.new", f"{directory}/{name}.pid")
    while True:  # until its node is lost
        time.sleep(0.05)
