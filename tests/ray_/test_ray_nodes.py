"""A cluster of several nodes with disks of their own, which loses a worker and a whole node."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from contract.suite import outcomes
from ray_.driver import ABANDONED, OK, PATH, by_name, told
from support import Program, environment, until

from trace_guard.testing import BraintrustServer


def test_losses_on_other_nodes(tmp_path: Path) -> None:
    """The spans of a killed worker on another node are closed from that node's disk. The open spans of a node that
    is lost with its disk are closed from Braintrust's rows."""
    # A short path, because it contains sockets. A separate directory, so that no other test finds this cluster.
    with BraintrustServer() as server, tempfile.TemporaryDirectory(prefix="ray") as sessions:
        program = Program(
            "from ray_ import nodes; nodes.main(say, listen)",
            environment(
                server, tmp_path / "driver", RAY_USAGE_STATS_ENABLED="0", RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0",
                TRACE_GUARD_LINGER="0.1", RAY_TMPDIR=sessions,
                # Ray declares a node dead sooner.
                RAY_health_check_initial_delay_ms="0", RAY_health_check_period_ms="500",
                RAY_health_check_failure_threshold="4", PYTHONPATH=os.pathsep.join(map(str, PATH)),
            ),
        )

        def hears() -> str:
            while not (line := program.hears(seconds=90)).startswith("answer:"):
                pass
            return line.partition(":")[2].strip()

        def is_open(*names: str) -> bool:
            return {row["span_attributes"]["name"] for row in server.open_spans()} == {*names}

        with program:
            assert hears() == "WorkerCrashedError"
            assert hears() == "at work"
            until(lambda: is_open("driver", "works", "left open on far"), seconds=60, what="only far's spans are open")
            program.tell("lose it")
            assert hears() == "NodeDiedError"
            until(lambda: is_open("driver"), seconds=60, what="far's spans are closed")
            program.tell("end")
            assert hears() == "bye"
            program.ends_well(60)
        rows = server.span_rows()
    near, far = sorted(by_name(rows, "works"), key=lambda row: told(row)["reason"] == "node_died")
    lost = {"outcome": "abandoned", "closed_by": "recovery", "reason": "node_died", "ray.node_id":
            far["metadata"]["ray.node_id"]}
    assert [told(near), told(far)] == [ABANDONED, lost]
    assert near["metadata"]["ray.node_id"] != far["metadata"]["ray.node_id"]
    assert far["error"] == "Abandoned: the node that the task ran on was lost"
    assert outcomes([row for row in rows if row["span_attributes"]["name"] != "works"]) == {
        "driver": OK, "left open on near": ABANDONED, "left open on far": lost,
    }
    assert far["metrics"]["start"] <= far["metrics"]["end"]
