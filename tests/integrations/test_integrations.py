"""Real libraries with Braintrust's wrappers for them, against a stand-in of the models' APIs on loopback."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from environments import python_of
from support import REPOSITORY, environment, traces_in

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

HERE = Path(__file__).parent
PYTHON = python_of("integrations")
LIBRARIES = (
    "anthropic", "dspy", "google_genai", "langgraph", "litellm", "openai", "openai_agents", "opentelemetry",
    "pydantic_ai",
)
# Ids and times that a library puts into its values.
VARIABLE = re.compile(
    r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\d{4}-\d\d-\d\d[T ]\d\d:\d\d:[\d.]+(\+00:00|Z)?"
)
# Spans that the library, or Braintrust's wrapper, never ends after an error.
LEFT_OPEN = {"pydantic_ai": {"agent_run_stream", "chat model"}}

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="make environments could not make it here")


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_works_as_it_does_alone(library: str, server: BraintrustServer, directory: Path) -> None:
    """Results, errors and spans of a library are the same in an invocation, and there each span is closed and
    delivered."""
    said = run(library, server, directory)
    assert said["guarded"] == said["plain"]
    assert said["delivery"] == "DELIVERED"
    plain, guarded = traces_in(server.span_rows())
    assert len(plain) > 1
    assert shape(guarded) == shape(plain)
    left_open = LEFT_OPEN.get(library, set())
    assert {row["span_attributes"]["name"] for row in server.open_spans()} == left_open
    assert [row for row in guarded if "end" not in row["metrics"]] == []
    assert {name(row) for row in guarded if "closed_by" in about(row)} == left_open


def run(library: str, server: BraintrustServer, directory: Path) -> Any:
    """What the program said."""
    variables = environment(
        server, directory, TRACE_GUARD_PROJECT_ID="", PATH=os.environ["PATH"], HOME=str(directory.parent),
        PYTHONPATH=str(REPOSITORY), PYTHONDONTWRITEBYTECODE="1", LITELLM_LOCAL_MODEL_COST_MAP="True",
        BRAINTRUST_OTEL_COMPAT="true" if library == "opentelemetry" else "",
    )
    done = subprocess.run(
        [PYTHON, HERE / "libraries.py", library], env=variables, text=True, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "trace-guard: could not" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def shape(trace: list[Row]) -> list[Any]:
    """The spans of a trace in the order of their starts, without ids, times, and what the guard adds."""
    names = {row["span_id"]: name(row) for row in trace}
    spans = []
    for row in sorted(trace, key=lambda row: (row["metrics"]["start"], row["span_attributes"].get("exec_counter", 0))):
        is_root = not row.get("span_parents")
        metadata = {key: value for key, value in (row.get("metadata") or {}).items() if key != "trace_guard"}
        spans.append((
            name(row), row["span_attributes"].get("type"),
            [names.get(parent, "OpenTelemetry") for parent in row.get("span_parents") or ()],
            sorted(set(row["metrics"]) - {"end"}),
            VARIABLE.sub("...", dumped([row.get(field) for field in ("input", "output", "error", "tags")])),
            None if is_root else VARIABLE.sub("...", dumped(metadata)),
        ))
    return spans


def dumped(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def name(row: Row) -> str:
    return str(row["span_attributes"]["name"])


def about(row: Row) -> dict[str, Any]:
    """What the guard says about a span."""
    return dict((row.get("metadata") or {}).get("trace_guard") or {})
