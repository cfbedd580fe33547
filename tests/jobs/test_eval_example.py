"""The evaluation in the README, which is the example ``nightly_eval``, run as users run it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import REPOSITORY, environment

from trace_guard.testing import BraintrustServer

EXAMPLE = REPOSITORY / "examples" / "nightly_eval" / "evaluate.py"


def evaluated(directory: Path, disabled: str) -> tuple[list[Any], list[str]]:
    """The scored cases of its experiment, and the names of the spans of no experiment."""
    with BraintrustServer() as server:
        variables = environment(
            server, directory, TRACE_GUARD_PROJECT_ID="", TRACE_GUARD_DISABLED=disabled, PATH=os.environ["PATH"],
            HOME=str(directory.parent), PYTHONPATH=str(REPOSITORY),
        )
        done = subprocess.run([sys.executable, EXAMPLE], env=variables, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert "trace-guard: could not" not in done.stderr
        assert server.open_spans() == []
        rows = server.span_rows()
    scores = {row["root_span_id"]: row["scores"] for row in rows if row.get("scores")}
    cases = [
        [row["input"], row["output"], row["expected"], scores[row["root_span_id"]]] for row in rows
        if row.get("experiment_id") and not row["span_parents"]
    ]
    return sorted(cases), sorted(row["span_attributes"]["name"] for row in rows if not row.get("experiment_id"))


def test_an_evaluation_scores_the_same_as_without_the_guard(directory: Path) -> None:
    """The 20 cases have the same outputs and scores with the guard as without it; the job is a trace beside theirs."""
    plain, no_logs = evaluated(directory, "true")
    guarded, logs = evaluated(directory, "")
    assert guarded == plain
    assert (len(guarded), {case[3]["exact"] for case in guarded}) == (20, {1.0})
    assert (no_logs, logs) == ([], ["load", "nightly-eval"])


def test_the_readme_shows_it() -> None:
    """The code in the README is the example's, line by line."""
    shown = (REPOSITORY / "README.md").read_text()
    assert f"```python\n{EXAMPLE.read_text()}```\n" in shown
