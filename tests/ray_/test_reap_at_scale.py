"""The example that runs the reaper's shares on Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import pytest
from support import REPOSITORY

from trace_guard.testing import BraintrustServer, Fault

EXAMPLE = REPOSITORY / "examples" / "reap_at_scale" / "reap.py"
TRACES = 40


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer(api_keys=["key"]) as server:
        server.add_project("p", "P")
        rows = []
        for number in range(TRACES):
            start = time.time() - 8 * 3600 - number * 40000
            created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start))
            ids = {"id": f"i{number}", "span_id": f"s{number}", "root_span_id": f"r{number}"}
            rows.append({**ids, "project_id": "P", "log_id": "g", "created": created, "metrics": {"start": start},
                         "span_attributes": {"name": "lost"}})
        body = json.dumps({"rows": rows, "api_version": 2}).encode()
        request = urllib.request.Request(f"{server.url}/logs3", body, {"Authorization": "Bearer key"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            assert answer.status == 200
        yield server


def test_shares_on_a_cluster_close_each_trace_once(server: BraintrustServer) -> None:
    """Every stuck trace is closed by one of the shares, also when some of them fail at first; there is one summary."""
    server.fail("/btql", Fault.status(404), times=2)  # fails a task at once
    env = {
        **os.environ, "BRAINTRUST_API_KEY": "key", "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
        "RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")]),
    }
    command = [sys.executable, str(EXAMPLE), "--shards", "4", "--close"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"4 of 4 shares done: {TRACES} found, {TRACES} closed, {TRACES} closed spans" in done.stdout
    assert server.open_spans() == []
    closing = [row["id"] for request in server.requests_to("/logs3")[1:] for row in request.rows]
    assert len(closing) == len(set(closing)) == TRACES
