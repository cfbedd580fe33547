"""A command ends under the supervisor exactly as it ends without one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from support import REPOSITORY, environment

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

SHELL = ["sh", "-c"]
RUN = [sys.executable, "-m", "trace_guard", "run"]


class Case(NamedTuple):
    """A command and the expected root span.

    Attributes:
        status: as in ``subprocess``: negative for a signal.
    """

    command: list[str]
    status: int
    outcome: str
    error: str | None
    facts: dict[str, Any]


def exits(command: list[str], code: int, error: str | None = None) -> Case:
    outcome = "error" if code else "ok"
    return Case(command, code, outcome, error or (f"Error: exit status {code}" if code else None),
                {"process.exit_code": code})


def is_killed(name: str) -> Case:
    number = signal.Signals[name]
    return Case([*SHELL, f"kill -{number} $$"], -number, "terminated", f"Terminated: killed by {name}",
                {"process.signal": name})


CASES = {
    "well": exits(["true"], 0),
    "3": exits([*SHELL, "exit 3"], 3),
    "42": exits([*SHELL, "exit 42"], 42),
    "uncaught": exits([sys.executable, "-c", "raise ValueError"], 1),
    "no_script": exits(["./script"], 7),
    "not_executable": exits(
        ["/etc/passwd"], 126, "Error: the command could not be started: Permission denied"
    ),
    "not_there": exits(
        ["no-such-command"], 127, "Error: the command could not be started: command not found"
    ),
    "sigkill": is_killed("SIGKILL"),
    "sigsegv": is_killed("SIGSEGV"),
    "sigterm": is_killed("SIGTERM"),
    "of_its_child": exits(
        [*SHELL, "sh -c 'kill -9 $$'; exit $?"], 137, "Error: exit status 137, as of SIGKILL"
    ),
}


class Results(NamedTuple):
    plain: dict[str, subprocess.CompletedProcess[str]]
    supervised: dict[str, subprocess.CompletedProcess[str]]
    roots: dict[str, Row]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Results]:
    """Runs every command with and without the supervisor, in parallel."""
    place = tmp_path_factory.mktemp("work")
    (place / "script").write_text("exit 7\n")  # a script without `#!`, which shells run
    (place / "script").chmod(0o755)
    with BraintrustServer() as server:
        env = {**os.environ, **environment(server, place / "state"), "PYTHONPATH": str(REPOSITORY)}

        def run(command: list[str]) -> subprocess.Popen[str]:
            return subprocess.Popen(command, env=env, cwd=place, stdout=-1, stderr=-1, text=True)

        def ended(process: subprocess.Popen[str]) -> subprocess.CompletedProcess[str]:
            out, err = process.communicate(timeout=60)
            return subprocess.CompletedProcess(process.args, process.returncode, out, err)

        plain = {
            name: subprocess.run(case.command, env=env, cwd=place, capture_output=True, text=True)
            for name, case in CASES.items() if name not in ("not_executable", "not_there", "no_script")
        }
        running = {name: run([*RUN, "--name", name, "--", *case.command]) for name, case in CASES.items()}
        supervised = {name: ended(process) for name, process in running.items()}
        roots = {row["span_attributes"]["name"]: row for row in server.span_rows()}
        assert server.open_spans() == []
        yield Results(plain, supervised, roots)


@pytest.mark.parametrize("name", CASES)
def test_a_command_ends_as_it_would_without(results: Results, name: str) -> None:
    """Exit status, signal, stdout and stderr are those of the command."""
    case, found = CASES[name], results.supervised[name]
    assert found.returncode == case.status
    if name in results.plain:
        plain = results.plain[name]
        assert (found.returncode, found.stdout, found.stderr) == (plain.returncode, plain.stdout, plain.stderr)


@pytest.mark.parametrize("name", CASES)
def test_the_root_says_how_the_command_ended(results: Results, name: str) -> None:
    """The root span has the outcome, the exit status or signal, and an error if the command failed."""
    case, root = CASES[name], results.roots[name]
    assert root["metadata"]["trace_guard"] == {"outcome": case.outcome}
    assert root.get("error") == case.error
    kept = {key: value for key, value in root["metadata"].items() if key in ("process.exit_code", "process.signal")}
    assert kept == case.facts
    assert root["metadata"]["process.command_args"] == case.command
    assert root["metadata"]["job"] == {"platform": "plain"}


def test_what_can_t_be_started_is_named(results: Results) -> None:
    """A command that can't be started differs in its trace from one that exits with the same status."""
    assert results.supervised["not_there"].stderr == "trace-guard: no-such-command: command not found\n"
    assert results.supervised["not_executable"].stderr == "trace-guard: /etc/passwd: Permission denied\n"


def test_a_shell_sees_128_and_the_signal(tmp_path: Path) -> None:
    """A shell script sees 128 plus the signal's number for a killed command."""
    run = " ".join([*RUN, "--", "sh", "-c", "'kill -9 $$'"])
    env = {**os.environ, "TRACE_GUARD_DIR": str(tmp_path), "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run([*SHELL, f"{run}; echo $?"], env=env, capture_output=True, text=True, timeout=60)
    assert done.stdout == "137\n"
