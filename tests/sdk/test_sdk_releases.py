"""The gateway in front of several releases of the SDK, each in an interpreter of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import PROJECT_ID, environment, pending_in, without_place

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer
from trace_guard.testing.http_wire import Request, Response

REPOSITORY = Path(__file__).parents[2]
SCENARIOS = Path(__file__).with_name("scenarios.py")


class Server(BraintrustServer):
    """The stand-in, which also knows experiments and datasets; refuses what is not of a project that it has."""

    def respond(self, request: Request) -> Response | None:
        if (request.method, request.path) == ("GET", "/api/project"):
            return Response.json({"id": PROJECT_ID, "name": "project"})
        kind = next((kind for kind in ("experiment", "dataset") if request.path in (
            f"/api/{kind}/register", f"/v1/{kind}",
        )), None)
        if kind is None or request.method != "POST":
            return super().respond(request)
        self._record(request, [])
        asked = json.loads(request.body)
        projects = {self._store.add_project(name): name for name in {asked.get("project_name")} - {None}}
        known = {**self._store.projects(), **projects}
        project_id = asked.get("project_id") or next(iter(projects), None)
        # Of a checkout that is being worked on the SDK sends the difference as well, which may say anything.
        told = {key: value for key, value in asked.items() if key != "repo_info"}
        if project_id not in known or "trace-guard:" in json.dumps(told):
            return Response.json({"error": f"no such project: {asked}"}, 400)
        made = {"id": str(uuid.uuid5(uuid.NAMESPACE_DNS, kind)), "name": "made", "project_id": project_id}
        project = {"id": project_id, "name": known[project_id]}
        return Response.json({"project": project, kind: made} if "/api/" in request.path else made)


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with Server(organizations=("first", "second")) as server:
        server.add_project("project", PROJECT_ID)
        yield server


def run(python: Path, scenario: str, server: BraintrustServer, directory: Path, **more: str) -> Any:
    """What a scenario said; it must end well, and leave nothing open or undelivered."""
    env = {
        "PATH": os.environ["PATH"], "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{REPOSITORY / 'adapters'}",
        "PYTHONDONTWRITEBYTECODE": "1", **environment(server, directory, **more),
    }
    done = subprocess.run(
        [python, SCENARIOS, scenario], env=env, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "trace-guard: could not" not in done.stderr
    assert server.open_spans() == []
    assert pending_in(directory) == []
    return json.loads(done.stdout.splitlines()[-1])


def named(server: BraintrustServer) -> dict[str, Row]:
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert len(rows) == len(server.span_rows())
    return rows


def paths(server: BraintrustServer) -> set[str]:
    return {request.path for request in server.requests}


NO_ID = {"TRACE_GUARD_PROJECT_ID": ""}


def test_spans_are_closed_and_delivered(python: Path, server: BraintrustServer, directory: Path) -> None:
    """With any release the trace is whole and closed, from rows alone: nothing else is asked of the server."""
    assert run(python, "guarded", server, directory) == ["delivered", True]
    spans = named(server)
    about = {name: without_place(row) for name, row in spans.items()}
    for name in ("left open", "within"):
        assert re.fullmatch(r"scenarios\.py:\d+ in guarded", spans[name]["metadata"]["trace_guard"]["opened_at"])
    forced = {"outcome": "ok", "closed_by": "guard", "reason": "left_open"}
    assert about == {
        "fine": {"outcome": "ok"}, "step": None, "tool": None, "left open": forced, "within": forced,
        "failed": {"outcome": "error"},
    }
    parents = {name: list(row["span_parents"] or ()) for name, row in spans.items()}
    assert parents == {
        "fine": [], "failed": [], "step": [spans["fine"]["span_id"]], "tool": [spans["step"]["span_id"]],
        "left open": [spans["fine"]["span_id"]], "within": [spans["left open"]["span_id"]],
    }
    fine = spans["fine"]
    assert (fine["input"], fine["output"], fine["tags"], fine["metadata"]["k"]) == ({"n": 1}, "done", ["t"], "v")
    assert (spans["step"]["output"], spans["step"]["metrics"]["tokens"]) == ("X", 3)
    assert spans["failed"]["error"].rstrip().endswith("ValueError: no such order")
    assert {row["project_id"] for row in server.rows()} == {PROJECT_ID}
    assert {row["log_id"] for row in server.rows()} == {"g"}
    assert all(row["_is_merge"] is True for request in server.requests_to("/logs3") for row in request.rows)
    assert paths(server) <= {"/logs3", "/api/apikey/login"}


def test_no_requests_are_made_of_rows(
    python: Path, server: BraintrustServer, directory: Path, tmp_path: Path
) -> None:
    """The SDK's rows take the short way to the journal, unless it is to keep copies of its requests."""
    assert run(python, "requests_of_rows", server, directory) == 0
    assert set(named(server)) == {"root", "step"}
    copies = tmp_path / "copies"
    assert run(python, "requests_of_rows", server, directory, BRAINTRUST_ALL_PUBLISH_PAYLOADS_DIR=str(copies)) > 0
    assert any(b'"step"' in copy.read_bytes() for copy in copies.iterdir())


def test_a_project_by_name(python: Path, server: BraintrustServer, directory: Path) -> None:
    """A project that is given by name is made and its rows have its id; links name the real organisation."""
    link, row_id, organisation = run(python, "by_name", server, directory, **NO_ID)
    (project_id,) = {row["project_id"] for row in server.rows()}
    assert project_id not in (PROJECT_ID, None)
    assert "trace-guard" not in str(project_id)
    assert "trace-guard" not in link
    assert project_id in link or "by%20name" in link or "by name" in link
    linked = named(server)["linked"]
    assert any(one in link for one in (row_id, linked["span_id"], linked["root_span_id"]))
    assert "/app/first/" in link
    assert organisation


def test_the_users_own_logger(python: Path, server: BraintrustServer, directory: Path) -> None:
    """If the user has called init_logger, its project and organisation are used, and feedback arrives."""
    assert run(python, "own_logger", server, directory, **NO_ID) is True
    (root,) = [row for row in server.rows() if row.get("span_attributes", {}).get("name") == "root"]
    assert server._store.projects()[root["project_id"]] == "mine"
    assert root["scores"] == {"good": 1}
    made = [json.loads(request.body) for request in server.requests_to("/v1/project")]
    assert {(one["name"], one["org_name"]) for one in made} == {("mine", "second")}


@pytest.mark.parametrize("key", ["key", ""])
def test_a_login_before_the_guard(python: Path, server: BraintrustServer, directory: Path, key: str) -> None:
    """Rows go out with the key that the user logged in with before there was a guard, whether the environment has
    one or not."""
    run(python, "logs_in", server, directory, BRAINTRUST_API_KEY=key)
    assert {"root", "step"} == set(named(server))
    assert {request.authorization for request in server.requests_to("/logs3")} == {"Bearer sk-planted-another"}


@pytest.mark.parametrize("scenario", ["chains_early", "chains_late"])
def test_an_adapter_of_the_users_own(
    python: Path, server: BraintrustServer, directory: Path, scenario: str
) -> None:
    """An adapter that the user has set carries what passes through, such as reading an attachment back, with a timeout,
    and neither rows nor attachments."""
    seen = run(python, scenario, server, directory)
    assert {tuple(one) for one in seen} == {("GET", "/attachment", True)}
    assert set(named(server)) == {"root", "step"}
    assert list(server.attachments.values()) == [b"content"]
    assert named(server)["step"]["input"]["key"] in server.attachments


def test_experiments_and_datasets_pass_through(python: Path, server: BraintrustServer, directory: Path) -> None:
    """Experiments and datasets of a project by name are registered under its real id, and their rows arrive."""
    experiment_id, dataset_id = run(python, "experiments", server, directory, **NO_ID)
    (case,) = [row for row in server.rows() if row.get("experiment_id")]
    assert (case["experiment_id"], case["scores"]) == (experiment_id, {"right": 1})
    (row,) = [row for row in server.rows() if row.get("dataset_id")]
    assert (row["dataset_id"], row["id"], row["input"], row["expected"]) == (dataset_id, "row-1", 1, 2)
    assert {"root", "case"} <= set(named(server))


def test_the_gateway_comes_out_again(python: Path, server: BraintrustServer, directory: Path) -> None:
    """After the last guard is closed the SDK is as it was, with the user's own adapter."""
    assert run(python, "takes_out", server, directory) is True
    assert set(named(server)) == {"root", "unguarded"}
