"""Objects and calls with a key of their own: their rows and requests carry it, and nobody else's do."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from support import REPOSITORY, environment

from trace_guard.rows import has_ended
from trace_guard.testing import BraintrustServer

SCENARIOS = Path(__file__).parent / "credential_scenarios.py"
OURS = {"first", "before", "after"} | {
    f"{prefix}{name}" for prefix in ("", "step of ") for name in ("earlier", "later0", "later1")
}


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer(organizations={"key-a": "A", "key-b": "B"}) as server:
        server.prompts["greeting"] = "hi"
        yield server


def run(python: Path, scenario: str, server: BraintrustServer, directory: Path, **more: str) -> Any:
    """What a scenario said. Its rows have arrived before the process ends, which would close and deliver all."""
    made = requests.post(f"{server.url}/v1/project", json={"name": "shared"}, timeout=10,
                         headers={"Authorization": "Bearer key-b"})
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")])
    process = subprocess.Popen(
        [python, SCENARIOS, scenario, "waits"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, cwd=directory.parent, env={
            "PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(directory),
            **environment(server, directory, TRACE_GUARD_PROJECT_ID="", BRAINTRUST_API_KEY="key-a", **more),
            "PROJECT_OF_B": made.json()["id"],
        },
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    arrived, still_open = names(server), server.open_spans()
    _, errors = process.communicate("\n", timeout=60)
    assert process.returncode == 0, errors
    assert "trace-guard: could not" not in errors, errors
    assert (names(server), server.open_spans()) == (arrived, still_open) == (arrived, [])
    return json.loads(line)


def names(server: BraintrustServer) -> dict[str, set[str]]:
    """The spans and rows that have arrived, by key."""
    seen: dict[str, set[str]] = {}
    for request in server.requests_to("/logs3"):
        for row in request.rows:
            name = (row.get("span_attributes") or {}).get("name")
            if name or not row.get("span_id"):
                seen.setdefault(str(request.authorization).removeprefix("Bearer "), set()).add(name or row["id"])
    return seen


def asked_with(server: BraintrustServer, path: str) -> set[str | None]:
    return {request.authorization for request in server.requests if request.path.startswith(path)}


def test_a_dataset(python: Path, server: BraintrustServer, directory: Path) -> None:
    """The rows of a dataset that is opened with another key go there, and are there when they are read."""
    assert run(python, "dataset", server, directory) == [["row-b"], "delivered"]
    assert names(server) == {"key-a": OURS, "key-b": {"row-b"}}


def test_an_experiment(python: Path, server: BraintrustServer, directory: Path) -> None:
    """The spans of a current experiment with another key go there, nested and closed."""
    assert run(python, "experiment", server, directory) == [{"right": 1.0}, "delivered"]
    assert names(server) == {"key-a": OURS, "key-b": {"case-b", "within-b", "left-open-b"}}
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert rows["within-b"]["span_parents"] == [rows["case-b"]["span_id"]]
    assert not rows["case-b"].get("span_parents")


@pytest.mark.parametrize("scenario", ["logger", "second_state"])
def test_a_logger(python: Path, server: BraintrustServer, directory: Path, scenario: str) -> None:
    """The spans of a logger with another key, or of a second state, go to its organisation, and those that are left
    open are closed with the invocation in which they began."""
    said, verdict = run(python, scenario, server, directory)
    assert (said, verdict) == ("shared" if scenario == "logger" else None, "delivered")
    found = names(server)
    assert found["key-a"] == OURS
    assert found["key-b"] == {"left-open-b", "within-b"} | ({"customer-b"} if scenario == "logger" else set())
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert {server.project_organizations[rows[name]["project_id"]] for name in found["key-b"]} == {"B"}
    assert rows["left-open-b"]["metadata"]["trace_guard"] == {
        "outcome": "ok", "closed_by": "guard", "reason": "left_open",
    }
    assert all(has_ended(row) for row in rows.values())


def test_attachments(python: Path, server: BraintrustServer, directory: Path) -> None:
    """Attachments go with the key and the organisation of the row that refers to them, and are read with these."""
    assert run(python, "attachments", server, directory) == [None, "delivered", ["content of dataset-b"]]
    sent = {
        json.loads(request.body)["filename"]: request.authorization for request in server.requests_to("/attachment")
        if request.method == "POST"
    }
    assert sent == {
        "ours-a": "Bearer key-a",
        **dict.fromkeys(("dataset-b", "experiment-b", "logger-b", "state-b"), "Bearer key-b"),
    }
    assert {content.decode() for content in server.attachments.values()} == {f"content of {name}" for name in sent}
    assert {status["upload_status"] for status in server.attachment_statuses.values()} == {"done"}


@pytest.mark.parametrize(("scenario", "path"), [("prompt", "/v1/prompt"), ("function", "/function/invoke")])
def test_a_call(python: Path, server: BraintrustServer, directory: Path, scenario: str, path: str) -> None:
    """A prompt or a function that is asked for with another key is asked for with that key, and no row is."""
    assert run(python, scenario, server, directory) == [{"prompt": "greeting", "function": "hello"}[scenario],
                                                        "delivered"]
    assert asked_with(server, path) == {"Bearer key-b"}
    assert names(server) == {"key-a": OURS}


def test_another_server(python: Path, server: BraintrustServer, directory: Path) -> None:
    """A prompt or parameters of another app URL are asked for there, with that key, and later ones here again."""
    with BraintrustServer(organizations={"key-b": "B"}) as other:
        for one, text in ((server, "here"), (other, "there")):
            one.prompts["greeting"] = text
            one.parameters["greeting"] = {"said": text}
        said, verdict = run(
            python, "elsewhere", server, directory, OTHER_URL=other.url, BRAINTRUST_API_URL="",
        )
        assert verdict == "delivered"
        assert said in (["here", "there", "here"], ["here", "there", "here"] * 2)
        assert {request.authorization for request in other.requests} == {"Bearer key-b"}
        assert asked_with(server, "/v1/prompt") == {"Bearer key-a"}
        assert names(server) == {"key-a": OURS}
