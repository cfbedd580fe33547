"""The gateway under several releases of the SDK, each in an environment of its own."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

from support import PROJECT_ID, REPOSITORY, environment

from trace_guard.backends.local import LocalStore
from trace_guard.testing import BraintrustServer, Fault

SCENARIOS = Path(__file__).parent / "release_scenarios.py"
NAMES = ["handler"] * 3 + ["left open"] + ["tool"] * 3 + ["within"]


def run(python: Path, scenario: str, env: dict[str, str]) -> None:
    """Run a scenario, which must end well and without a word about a fault."""
    process = start(python, scenario, env)
    _, said = process.communicate("\n", timeout=60)
    assert process.returncode == 0, said
    assert "trace-guard: could not" not in said, said


def start(python: Path, scenario: str, env: dict[str, str]) -> subprocess.Popen[str]:
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")])
    return subprocess.Popen(
        [str(python), str(SCENARIOS), scenario], text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **env},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )


def names(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(row["span_attributes"]["name"] for row in rows)


def projects(server: BraintrustServer) -> set[str]:
    return {row["project_id"] for row in server.span_rows()}


def test_a_users_logger_by_id_is_used(python: Path, server: BraintrustServer, directory: Path) -> None:
    """Under each release a logger that was made with a project's id needs no look-up."""
    run(python, "logger_by_id", environment(server, directory))
    assert (server.open_spans(), projects(server)) == ([], {PROJECT_ID})
    assert server.requests_to("/v1/project") == []


def test_a_users_organisation_is_heeded(python: Path, directory: Path) -> None:
    """Under each release a logger for one organisation of several is made without an error."""
    with BraintrustServer(organizations=("first", "second")) as server:
        run(python, "login_with_organisation", environment(server, directory))
        assert (names(server.span_rows()), server.open_spans()) == (NAMES, [])


def test_without_a_key_the_local_store_has_it_all(python: Path, directory: Path) -> None:
    """Under each release traces end up in the local store, closed, if there is no key."""
    run(python, "plain", environment(None, directory, BRAINTRUST_API_KEY=""))
    store = LocalStore(directory / "traces.db")
    assert names(store.all_rows()) == NAMES
    assert [trace.in_progress for trace in store.traces()] == [False] * 3
    store.close()


def test_flush_and_exit_deliver(python: Path, server: BraintrustServer, directory: Path) -> None:
    """Under each release rows of no invocation have arrived when braintrust.flush() returns, and at the latest when
    the program has ended."""
    process = start(python, "outside", environment(server, directory))
    assert process.stdout is not None
    assert process.stdout.readline() == '"flushed"\n'
    assert names(server.span_rows()) == ["flushed"]
    _, said = process.communicate("\n", timeout=60)
    assert (process.returncode, "trace-guard: could not" in said) == (0, False), said
    assert names(server.span_rows()) == ["flushed", "left to the exit"]
    assert server.open_spans() == []


def test_no_look_up_is_waited_for(python: Path, server: BraintrustServer, directory: Path) -> None:
    """Under each release nothing waits for a login, a project or a version that never answers."""
    for endpoint in ("/api/apikey/login", "/v1/project", "/api/project/register", "/version"):
        server.fail(endpoint, Fault.black_hole())
    run(python, "plain", environment(server, directory))
    assert (names(server.span_rows()), server.open_spans()) == (NAMES, [])
