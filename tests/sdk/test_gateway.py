"""What a user does once the gateway is in place, under several releases of the SDK."""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from support import PROJECT_ID, REPOSITORY, environment

from trace_guard.testing import BraintrustServer, Fault

SCENARIOS = Path(__file__).with_name("gateway_scenarios.py")
KEY = "sk-the-key-of-the-environment"
NO_ID = {"TRACE_GUARD_PROJECT_ID": ""}


def run(python: Path, scenario: str, server: BraintrustServer, home: Path, *told: str, **more: str) -> Any:
    """What a scenario said; it has no place to write to but its home, and must end well."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")])
    env = {
        "PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1",
        "HOME": str(home), "TMPDIR": str(home),
        **environment(server, home / "trace-guard", **{"BRAINTRUST_API_KEY": KEY, **NO_ID, **more}),
    }
    done = subprocess.run(
        [python, SCENARIOS, scenario, *told], env=env, cwd=home, capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "trace-guard: could not" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def names(server: BraintrustServer) -> Counter[str]:
    return Counter(row["span_attributes"]["name"] for row in server.span_rows())


def files_with(home: Path, *words: str) -> list[str]:
    """The files below a directory that have one of the words in them, or in their names."""
    files = [path for path in home.rglob("*") if path.is_file()]
    assert files  # else this would say nothing
    return [
        path.name for path in files
        if any(word.encode() in path.read_bytes() or word in str(path) for word in words)
    ]


def projects(server: BraintrustServer) -> dict[str, set[str]]:
    """The names of the projects that spans of each name are in."""
    known, found = server._store.projects(), dict[str, set[str]]()
    for row in server.span_rows():
        found.setdefault(row["span_attributes"]["name"], set()).add(known[row["project_id"]])
    return found


@pytest.mark.parametrize(("by", "what"), [("project_id", PROJECT_ID), ("project", "users")])
def test_a_logger_made_before_the_first_invocation_is_heeded(
    python: Path, server: BraintrustServer, tmp_path: Path, by: str, what: str
) -> None:
    """Under each release a logger that the user makes before the first invocation has the roots of all, also when a
    handler makes another one."""
    run(python, "logger_before", server, tmp_path, by, what)
    mine = {"project_id": "project", "project": "users"}[by]
    assert (names(server), server.open_spans()) == ({"root": 3, "tool": 3, "customer's": 1}, [])
    assert projects(server) == {"root": {mine}, "tool": {mine}, "customer's": {"a customer's"}}


def test_a_logger_made_within_a_handler_has_its_own_only(
    python: Path, server: BraintrustServer, tmp_path: Path
) -> None:
    """Under each release a logger that a handler makes for one customer has what is logged with it, and no trace of the
    next one's."""
    run(python, "logger_within", server, tmp_path)
    assert (names(server), server.open_spans()) == ({"root": 3, "tool": 3, "customer's": 3}, [])
    assert projects(server) == {
        "root": {"guards own"}, "tool": {"guards own"}, "customer's": {"ann's", "bob's", "cyd's"},
    }


@pytest.mark.parametrize(("key", "told"), [(KEY, ()), (KEY, ("logged in",)), ("", ())])
def test_a_key_by_keyword_beats_the_environments(
    python: Path, server: BraintrustServer, tmp_path: Path, key: str, told: tuple[str, ...]
) -> None:
    """Under each release all that is sent for a guard with a key of its own has that key, whatever the environment's
    is, and no other one that came before it."""
    run(python, "key_by_keyword", server, tmp_path, *told, BRAINTRUST_API_KEY=key)
    assert (names(server), server.open_spans()) == ({"first key": 1, "second key": 1, "step": 2}, [])
    roots = {
        row["span_attributes"]["name"]: request.authorization
        for request in server.requests_to("/logs3") for row in request.rows
        if "span_attributes" in row and not row.get("span_parents")
    }
    assert roots == {key: f"Bearer {key}" for key in ("first key", "second key")}
    asked = [request.authorization for request in server.requests_to("/v1/prompt")]
    assert list(dict.fromkeys(asked)) == ["Bearer first key", "Bearer second key"]
    assert files_with(tmp_path, "first key", "second key") == []


@pytest.mark.parametrize("key", [KEY, ""])
def test_a_login_after_the_guard(python: Path, server: BraintrustServer, tmp_path: Path, key: str) -> None:
    """Under each release rows go out with the key that the user logs in with once the guard has started, and no
    key is ever written to disk."""
    run(python, "login_later", server, tmp_path, BRAINTRUST_API_KEY=key)
    assert (names(server), server.open_spans()) == ({"root": 1, "tool": 1}, [])
    assert {request.authorization for request in server.requests_to("/logs3")} == {"Bearer sk-planted-another"}
    assert {row["project_id"] for row in server.span_rows()} == {server.add_project("project")}
    assert files_with(tmp_path, "sk-planted-another", KEY) == []


def test_a_login_to_another_server(python: Path, server: BraintrustServer, tmp_path: Path) -> None:
    """Under each release what follows a login to another server goes to the project of the same name there."""
    with BraintrustServer(organizations=["elsewhere"]) as other:
        run(python, "login_elsewhere", server, tmp_path, other.url, BRAINTRUST_API_URL="")
        assert (names(server), server.open_spans()) == ({"root": 1, "tool": 1}, [])
        assert (names(other), other.open_spans()) == ({"root": 1, "tool": 1, "outside": 1}, [])
        assert {row["project_id"] for row in other.span_rows()} == {other.add_project("project")}
        assert {request.authorization for request in other.requests} == {"Bearer sk-planted-another"}
    assert files_with(tmp_path, "sk-planted-another", KEY) == []


@pytest.mark.parametrize("key", [KEY, ""])
def test_a_login_within_a_handler(python: Path, server: BraintrustServer, tmp_path: Path, key: str) -> None:
    """Under each release an invocation that logs in stays whole where it began, and the next one goes out with the
    new key. Without a key before, the first goes out with it too."""
    assert run(python, "login_within", server, tmp_path, BRAINTRUST_API_KEY=key) == ["FIRST", "SECOND"]
    sent = {request.authorization for request in server.requests_to("/logs3")}
    assert (names(server), server.open_spans()) == ({"root": 2, "tool": 4}, [])
    assert sent == {"Bearer sk-planted-another", *([f"Bearer {KEY}"] if key else [])}


def test_a_handler_does_not_notice_a_black_hole(python: Path, server: BraintrustServer, tmp_path: Path) -> None:
    """Under each release no code of a handler waits for a server that never answers, and a later process delivers
    what it logged, with a key that was never written to disk."""
    server.fail("*", Fault.black_hole())
    brief = {"TRACE_GUARD_FLUSH_TIMEOUT": "0.1", "TRACE_GUARD_EXIT_TIMEOUT": "0.1"}
    took = run(python, "black_hole", server, tmp_path, **brief)
    assert len(took) == 3
    assert max(took) < 2, took  # a wait would last for the 5 s of the shortest timeout, or for ever
    assert server.rows() == []
    assert files_with(tmp_path, KEY) == []
    server.heal()
    assert run(python, "recovers", server, tmp_path) is True
    assert (names(server), server.open_spans()) == ({"root": 3, "step": 3, "tool": 3}, [])
    assert files_with(tmp_path, KEY) == []
