"""``trace-guard recover`` for what stays behind: rows for other destinations, and rows that were refused."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import PROJECT_ID, environment, settings_for

from trace_guard import Guard
from trace_guard.delivery.dead_letters import read_dead_letters
from trace_guard.testing import BraintrustServer, Fault

DIES = """
import os, signal
from trace_guard import Guard
with Guard(flush_timeout=0.2).invocation("ask"):
    os.kill(os.getpid(), signal.SIGKILL)
"""
REFUSES = Fault.refuse_rows(lambda row: row.get("input") == "bad")


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer() as server:
        yield server


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "state"


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("BRAINTRUST_", "TRACE_GUARD_"))}
    return subprocess.run(
        [sys.executable, *arguments], env={**kept, **variables}, capture_output=True, text=True, timeout=60
    )


def cli(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run("-m", "trace_guard", *arguments, **variables)


def test_recover_names_other_destinations(server: BraintrustServer, directory: Path) -> None:
    """``recover`` says how many rows are for another destination, and the command that it prints delivers them."""
    ours = environment(server, directory)
    assert run("-c", DIES, **ours).returncode == -signal.SIGKILL
    with BraintrustServer() as other:
        done = cli("recover", **environment(other, directory))
        elsewhere = json.loads(cli("recover", "--json", **environment(other, directory)).stdout)["elsewhere"]
    assert done.returncode == 0
    first, line = done.stdout.splitlines()
    assert first == f"nothing to recover in {directory}"
    assert server.url in line
    assert [(journal["open_spans"], journal["pending_rows"] > 0) for journal in elsewhere] == [(1, True)]
    *settings, program, command = shlex.split(line.split("`")[1])
    assert (program, command) == ("trace-guard", "recover")
    named = dict(setting.split("=", 1) for setting in settings)
    assert line.endswith("with its BRAINTRUST_API_KEY")
    variables = {**named, "BRAINTRUST_API_KEY": ours["BRAINTRUST_API_KEY"], "TRACE_GUARD_DIR": str(directory)}
    assert cli("recover", **variables).returncode == 0
    assert server.span_rows()
    assert server.open_spans() == []


def refused(server: BraintrustServer, directory: Path) -> None:
    """Leave a refused row in the directory."""
    server.fail("/logs3", REFUSES)
    guard = Guard(settings_for(server, directory))
    try:
        with guard.invocation("ask", input="bad"):
            pass
        assert guard.flush(10)
    finally:
        guard.close(1)
    assert len(list(read_dead_letters(directory))) >= 1


def test_refused_rows_are_sent_again(server: BraintrustServer, directory: Path) -> None:
    """``recover --refused`` delivers refused rows once the cause is mended; until then they are kept."""
    refused(server, directory)
    variables = environment(server, directory)
    assert "`trace-guard recover --refused` sends them again" in cli("status", **variables).stdout
    again = json.loads(cli("recover", "--refused", "--json", **variables).stdout)
    letters = len(list(read_dead_letters(directory)))
    assert (again["delivered"], again["refused"], again["kept"]) == (0, letters, 0)
    assert "400" in again["error"]

    server.heal()
    done = cli("recover", "--refused", **variables)
    assert (done.returncode, done.stdout) == (0, f"{letters} refused row delivered, 0 refused again, 0 kept\n")
    (row,) = server.span_rows()
    assert (row["input"], row["project_id"], "end" in row["metrics"]) == ("bad", PROJECT_ID, True)
    assert list(read_dead_letters(directory)) == []
    assert cli("recover", "--refused", **variables).stdout == "no refused rows\n"
    assert cli("status", **variables).returncode == 0


def test_refused_rows_stay_while_the_backend_is_down(server: BraintrustServer, directory: Path) -> None:
    """Refused rows are kept if the backend does not answer, or if they are for another destination."""
    refused(server, directory)
    letters = list(read_dead_letters(directory))
    with BraintrustServer() as other:
        done = cli("recover", "--refused", **environment(other, directory))
        assert (done.returncode, other.requests_to("/logs3")) == (1, [])
        assert "another destination" in done.stdout
    server.refuse_connections()
    done = cli("recover", "--refused", "--timeout", "0.5", **environment(server, directory))
    assert done.returncode == 1
    assert f"{len(letters)} kept" in done.stdout
    assert list(read_dead_letters(directory)) == letters
