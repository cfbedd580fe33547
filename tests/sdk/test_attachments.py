"""Attachments under several releases of the SDK: none is lost with the network or the process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

from attachment_scenarios import LARGE
from planted_keys import PLANTED_KEY
from support import REPOSITORY, environment, journals

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer, Fault

SCENARIOS = Path(__file__).with_name("attachment_scenarios.py")
DONE = {"upload_status": "done"}


def run(
    python: Path, scenario: str, server: BraintrustServer | None, home: Path, ends_with: int = 0, **more: str
) -> Any:
    """What a scenario said, and its words on stderr must not be about a fault of ours."""
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")])
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "HOME": str(home)}
    done = subprocess.run(
        [python, SCENARIOS, scenario, home], env={**env, **environment(server, home / "trace-guard", **more)},
        capture_output=True, text=True, timeout=60,
    )
    assert done.returncode == ends_with, done.stderr
    assert "trace-guard: could not" not in done.stderr, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def contents(server: BraintrustServer, row: Row) -> dict[str, bytes]:
    """What the server has for the attachments of a row, by file name."""
    return {one["filename"]: server.attachments[one["key"]] for one in row["input"]["files"]}


ALL = {"large.bin": LARGE, "report.txt": b"from a file", "empty.txt": b""}


def test_attachments_arrive_with_their_trace(python: Path, server: BraintrustServer, tmp_path: Path) -> None:
    """Under each release an invocation's attachments are there when it is delivered, and those of other spans when
    flush() returns; they can be read back."""
    assert run(python, "delivers", server, tmp_path) == ["delivered", "from a file"]
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert contents(server, rows["root"]) == ALL
    assert server.attachments[rows["outside"]["input"]["key"]] == b"from a file"
    assert server.attachment_statuses == dict.fromkeys(server.attachments, DONE)


def test_attachments_survive_a_black_hole_and_a_kill(python: Path, server: BraintrustServer, tmp_path: Path) -> None:
    """Under each release flush() does not wait for a server that never answers, and when its process is killed the next
    one delivers the attachments with the trace; nothing is left on disk, nor ever was the key."""
    server.fail("*", Fault.black_hole())
    took = run(python, "is_killed", server, tmp_path, -signal.SIGKILL, BRAINTRUST_API_KEY=PLANTED_KEY)
    assert took < 2, took  # a wait would last for the 5 s of the shortest timeout, or for ever
    assert (server.rows(), server.attachments) == ([], {})
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".body"]) == 3
    assert [path for path in files if b"sk-planted-" in path.read_bytes()] == []
    server.heal()
    assert run(python, "recovers", server, tmp_path, BRAINTRUST_API_KEY=PLANTED_KEY) is True
    (step,) = [row for row in server.span_rows() if row["span_attributes"]["name"] == "step"]
    assert (contents(server, step), server.open_spans()) == (ALL, [])
    assert server.attachment_statuses == dict.fromkeys(server.attachments, DONE)
    assert journals(tmp_path / "trace-guard") == []


def test_without_a_key_attachments_are_kept_locally(python: Path, tmp_path: Path) -> None:
    """Under each release attachments are files beside the local store if there is no key, and can be read back."""
    assert run(python, "delivers", None, tmp_path, BRAINTRUST_API_KEY="") == ["delivered", "from a file"]
    kept = [path.read_bytes() for path in (tmp_path / "trace-guard" / "attachments").iterdir()]
    assert sorted(kept) == sorted([*ALL.values(), b"from a file"])
