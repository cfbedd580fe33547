"""The batch job example, run as users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from planted_keys import PLANTED_KEY
from support import REPOSITORY

from trace_guard import LocalStore
from trace_guard.testing import BraintrustServer

EXAMPLE = REPOSITORY / "examples" / "batch_job"


def run(directory: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {
        **os.environ, "TRACE_GUARD_DIR": str(directory), **variables,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")]),
    }
    return subprocess.run(
        [sys.executable, "job.py", *arguments], cwd=EXAMPLE, env=environ, capture_output=True, text=True
    )


def test_a_thousand_questions(server: BraintrustServer, directory: Path) -> None:
    """Each of 1,000 questions is a closed step with the model call below it, and the root counts the results."""
    done = run(directory, BRAINTRUST_API_KEY=PLANTED_KEY, BRAINTRUST_API_URL=server.url, BRAINTRUST_APP_URL=server.url)
    assert (done.returncode, done.stdout) == (0, "920 of 1000 right\n"), done.stderr
    assert done.stderr.count("try again later") == 20
    assert "trace-guard" not in done.stderr
    rows = server.span_rows()
    assert server.open_spans() == []
    (root,) = [row for row in rows if row["span_parents"] is None]
    assert root["span_attributes"]["name"] == "nightly-eval"
    assert root["metadata"]["job"] == {
        "platform": "plain", "right": 920, "steps": {"done": 970, "failed": 20, "skipped": 10},
    }
    assert {row["root_span_id"] for row in rows} == {root["root_span_id"]}
    steps = {row["span_id"]: row for row in rows if row["span_attributes"]["name"] == "evaluate"}
    calls = [row for row in rows if row["span_attributes"]["name"] == "ask"]
    assert (len(steps), len(calls)) == (1000, 990)
    assert all(row["span_parents"][0] in steps for row in calls)
    assert sum(row["scores"]["exact"] for row in steps.values() if row.get("scores")) == 920


@pytest.mark.parametrize("off", ["false", "true"])
def test_without_a_key(directory: Path, off: str) -> None:
    """The exit status reports wrong answers without an API key, with the trace in the local store, and with trace-guard
    disabled."""
    done = run(directory, "10", BRAINTRUST_API_KEY="", TRACE_GUARD_DISABLED=off)
    assert (done.returncode, done.stdout) == (3, "8 of 10 right\n")
    if off == "false":
        (trace,) = LocalStore(directory / "traces.db").traces()
        assert (trace.name, trace.outcome, trace.in_progress) == ("nightly-eval", "error", False)
