"""The reaper killed at random instants. ``make chaos`` does it 50 times and more."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path
from typing import Any

import pytest
from stuck import HOUR, PROJECT, environment, reap, send, span

from trace_guard.testing import BraintrustServer

_TRACES = 250
_SHARE = 6

pytestmark = pytest.mark.chaos


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = metafunc.config.getoption("chaos_seed")
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    base = given if given is not None else int(run[:6], 16) * 1000
    runs = max(2, metafunc.config.getoption("chaos_runs") // _SHARE)
    metafunc.parametrize("seed", range(base, base + runs))


def rows() -> list[dict[str, Any]]:
    return [
        row for number in range(_TRACES) for row in (
            span("root", trace=f"{number}", ago=HOUR * (2 + number / 10)),
            span("call", "root", trace=f"{number}", ago=HOUR * (2 + number / 10) - 60),
            span("done", "call", trace=f"{number}", ago=HOUR * (2 + number / 10) - 90, took=5),
        )
    ]


def test_a_run_that_was_killed_is_completed_by_the_next(
    seed: int, server: BraintrustServer, tmp_path: Path
) -> None:
    """Killed at a random instant and run again, the reaper leaves the same rows and audit as without the kill."""
    chance = random.Random(seed)
    sent, audit = rows(), tmp_path / "audit.jsonl"
    send(server, *sent)
    server.latency = 0.02
    command = [sys.executable, "-m", "trace_guard", "reap", "--project", PROJECT, "--close", "--audit", str(audit)]
    with subprocess.Popen(command, env=environment(server), stdout=subprocess.DEVNULL) as process:
        server.wait_for(lambda: server.requests_to("/btql") or process.poll() is not None, timeout=60)
        limit = time.monotonic() + chance.uniform(0, 1.0)
        while time.monotonic() < limit and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    reap(server, "--close", "--audit", str(audit))
    assert server.open_spans() == []
    found = {row["id"]: row for row in server.span_rows()}
    ends = {row["id"]: row["metrics"].get("end") for row in sent}
    for row in sent:
        trace = row["id"].rpartition("-")[0]
        end = ends[f"{trace}-done"]
        expected = {**row, "metrics": {**row["metrics"], "end": end}}
        if ends[row["id"]] is None:
            reason = "children_closed"
            about = {"outcome": "abandoned", "closed_by": "reaper", "reason": reason, "reaped_end": end}
            expected["metadata"] = {"trace_guard": about}
        assert found[row["id"]] == expected
    lines = [json.loads(line)["root_span_id"] for line in audit.read_text().splitlines()]
    assert sorted(lines) == sorted(f"r-{number}" for number in range(_TRACES))
    closing = [row["id"] for request in server.requests_to("/logs3")[1:] for row in request.rows]
    assert len(closing) == len(set(closing)) == 2 * _TRACES
