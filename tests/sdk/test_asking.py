"""What user code asks the server through the SDK is answered by the server, within an invocation as without one."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY, environment

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer, Fault
from trace_guard.testing.http_wire import Request, Response

SCENARIOS = Path(__file__).parent / "asking_scenarios.py"
MODES = ("plain", "guarded")
KEYS = {"key-a": "A", "key-b": "B"}
LIMIT = 6 * 1024 * 1024


class OverflowServer(BraintrustServer):
    """A server that names a limit, and takes larger rows by way of an object store."""

    def __init__(self) -> None:
        self.uploads: dict[str, bytes] = {}
        super().__init__(max_body_bytes=LIMIT)

    def respond(self, request: Request) -> Response | None:
        if request.path == "/version":
            return Response.json({"logs3_payload_max_bytes": LIMIT})
        if request.path == "/logs3/overflow":
            key = str(uuid.uuid4())
            return Response.json({"method": "PUT", "signedUrl": f"{self.url}/store/{key}", "headers": {}, "key": key})
        if request.path.startswith("/store/"):
            self.uploads[request.path.rpartition("/")[2]] = request.body
            return Response(200)
        if request.path == "/logs3" and isinstance(rows := json.loads(request.body)["rows"], dict):
            return Response.json({"ids": self._store.write(json.loads(self.uploads[rows["key"]])["rows"])})
        return super().respond(request)


def run(python: Path, scenario: str, mode: str, server: BraintrustServer, directory: Path, **more: str) -> Any:
    """What a scenario said; it must end well."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")])
    done = subprocess.run(
        [python, SCENARIOS, scenario, mode], text=True, capture_output=True, timeout=60,
        env={
            "PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(directory),
            **environment(server, directory, TRACE_GUARD_PROJECT_ID="", **more),
        },
    )
    assert done.returncode == 0, done.stderr
    assert "trace-guard: could not" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def by_name(server: BraintrustServer) -> dict[str, Row]:
    return {row["span_attributes"]["name"]: row for row in server.span_rows()}


def test_a_wrong_key_raises_where_the_sdk_raises(python: Path, tmp_path: Path) -> None:
    """A login that user code makes with a refused key, or for an organisation of others, raises what the SDK raises
    alone, and leaves the login of the process as it was."""
    said = {}
    for mode in MODES:
        with BraintrustServer(organizations=KEYS) as server:
            said[mode] = run(python, "wrong_key", mode, server, tmp_path / mode, BRAINTRUST_API_KEY="key-a")
            assert {request.authorization for request in server.requests_to("/logs3")} == {"Bearer key-a"}
            assert "step" in by_name(server)
    assert said["guarded"] == said["plain"]
    assert all("401" in text or "nobody's" in text for text in said["plain"])


def test_a_wrong_key_of_the_environment_raises(python: Path, tmp_path: Path) -> None:
    """login() and the first use of a refused key raise although the guard has logged in without asking the server."""
    said = {}
    for mode in MODES:
        with BraintrustServer(organizations=KEYS) as server:
            said[mode] = run(python, "wrong_key_in_environment", mode, server, tmp_path / mode,
                             BRAINTRUST_API_KEY="key-of-nobody")
    assert said["guarded"] == said["plain"]
    assert all("401" in text for text in said["plain"])


def test_names_and_ids_are_the_servers(python: Path, tmp_path: Path) -> None:
    """Whoever asks a logger, an experiment or a dataset for its project gets what the SDK alone gets, in the first
    invocation too."""
    said = {}
    for mode in MODES:
        with BraintrustServer(organizations=KEYS, latency=0.1) as server:
            said[mode] = run(
                python, "names_and_ids", mode, server, tmp_path / mode, BRAINTRUST_API_KEY="key-a",
                KNOWN_ID=server.add_project("known by id", "22222222-3333-4444-5555-666666666666"),
            )
            assert server.open_spans() == []
    assert said["guarded"] == said["plain"]


def test_the_organisation_is_the_servers(python: Path, tmp_path: Path) -> None:
    """org_id() and permalink() wait for the server instead of telling what nobody knows."""
    said = {}
    for mode in MODES:
        with BraintrustServer(organizations=KEYS, latency=0.1) as server:
            app, link = run(python, "organisation_first", mode, server, tmp_path / mode, BRAINTRUST_API_KEY="key-b")
            said[mode] = [app, link.replace(server.url, "")]
    assert said["guarded"] == said["plain"]


def test_a_login_without_a_network_ends_in_time(python: Path, tmp_path: Path) -> None:
    """A login that nobody answers is over before the deadline of the invocation, and its rows are kept."""
    with BraintrustServer() as server:
        server.fail("/api/apikey/login", Fault.black_hole())
        assert run(python, "login_before_a_deadline", "guarded", server, tmp_path, TRACE_GUARD_EXIT_TIMEOUT="1") > 0
        server.heal()


def test_a_large_span_is_not_dropped(python: Path, tmp_path: Path) -> None:
    """A span above the server's limit arrives, with its payload or with the mark that it was cut, as do its
    neighbours; and user code that asks for the limit gets the server's."""
    for serves, limited in ((OverflowServer, True), (BraintrustServer, False)):
        with serves() as server:
            version = run(python, "limits", "guarded", server, tmp_path / serves.__name__)
            assert version == ({"logs3_payload_max_bytes": LIMIT} if limited else {})
            rows = by_name(server)
            assert (set(rows), server.open_spans()) == ({"invocation", "large", "small"}, [])
            assert rows["small"]["input"] == "z"
            large = rows["large"]
            assert len(large.get("input", "")) == 8_000_000 if limited else is_cut(large)


def is_cut(row: Mapping[str, Any]) -> bool:
    return "input" not in row and row["metadata"]["trace_guard"]["payload_dropped"] is True


def test_no_timeout_is_shorter_than_the_sdks(python: Path, tmp_path: Path) -> None:
    """Requests that pass through have the timeouts that they have without the guard, or longer ones."""
    said: dict[str, dict[str, float]] = {}
    for mode in MODES:
        with BraintrustServer() as server:
            server.prompts["greeting"] = "hi"
            seen = run(python, "timeouts", mode, server, tmp_path / mode)
            said[mode] = {path: float("inf") if timeout == -1 else timeout for path, timeout in seen}
    asked = {"/function/invoke", "/v1/prompt"}
    assert asked <= set(said["plain"])
    # A release without any timeout may wait for ever; 60 seconds are the least that any release waits.
    assert all(said["guarded"][path] >= min(said["plain"][path], 60) for path in asked)


@pytest.mark.parametrize("mode", MODES)
def test_a_slow_function_is_waited_for(python: Path, tmp_path: Path, mode: str) -> None:
    """A function that takes longer than the guard waits for anything of its own is not cut."""
    with BraintrustServer() as server:
        def answer(asked: Mapping[str, Any]) -> Any:
            time.sleep(2.5)
            return asked["input"]

        server.answer_functions(answer)
        assert run(python, "slow_function", mode, server, tmp_path, SECONDS="2.5", TRACE_GUARD_FLUSH_TIMEOUT="0.2",
                   TRACE_GUARD_EXIT_TIMEOUT="2") == ["hello", True]
