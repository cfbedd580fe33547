"""Traces that the TypeScript SDK leaves stuck."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from environments import NODE_PACKAGES, node_modules
from stuck import environment, reap, reaped

from trace_guard.testing import BraintrustServer

PROGRAM = Path(__file__).with_name("unguarded.cjs")
A_WHILE = 60.0


@pytest.mark.skipif(
    shutil.which("node") is None or not (node_modules() / "braintrust").exists(),
    reason=f"needs node with {', '.join(NODE_PACKAGES)}: python tests/environments.py",
)
def test_a_trace_of_another_language_is_repaired(server: BraintrustServer) -> None:
    """A trace of the TypeScript SDK whose process was killed is found, explained with its place, and closed."""
    variables = environment(server, NODE_PATH=str(node_modules()))
    done = subprocess.run(["node", str(PROGRAM)], env=variables, timeout=A_WHILE)
    assert done.returncode == -signal.SIGKILL
    limit = time.monotonic() + A_WHILE
    while "1 stuck trace" not in (text := reap(server, "--older-than", "1s").stdout):
        assert time.monotonic() < limit, text
    assert "killed inside a call  call at repair/unguarded.cjs:9 in main" in text
    before = {row["id"]: row["metrics"] for row in server.open_spans()}
    reap(server, "--close", "--older-than", "1s")
    assert server.open_spans() == []
    closed = {row["id"]: row for row in server.span_rows() if row["id"] in before}
    starts = [metrics["start"] for metrics in before.values()]
    assert {row["metrics"]["end"] for row in closed.values()} == {max(starts)}
    assert all(reaped(row) == "killed_in_call" for row in closed.values())
