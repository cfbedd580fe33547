"""What a process says at its end about rows that it can't deliver."""

from __future__ import annotations

import logging
import os
import re
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Program, environment, journals, pending_in, until

from trace_guard.contain import logger, warn_once
from trace_guard.testing import BraintrustServer, Fault

INVOKES = """
    from trace_guard import Guard
    with Guard(flush_timeout=0.1).invocation("ask"):
        pass
    say("done")
"""
JOB = """
    from trace_guard import guard_job
    @guard_job(name="nightly")
    def main():
        say("done")
    main()
"""


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


@pytest.fixture
def refusing() -> Iterator[str]:
    """A URL where nobody listens."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


def at(url: str, directory: Path, seconds: float) -> dict[str, str]:
    return environment(
        None, directory, BRAINTRUST_API_URL=url, BRAINTRUST_APP_URL=url, TRACE_GUARD_EXIT_TIMEOUT=str(seconds)
    )


@pytest.mark.parametrize("url", ["refusing", "silent"])
@pytest.mark.parametrize("code", [INVOKES, JOB], ids=["exit", "job"])
def test_a_wait_is_announced(code: str, url: str, directory: Path, request: pytest.FixtureRequest) -> None:
    """A process that waits for the backend says so within a second: for what, how much, and for how long at most."""
    with Program(code, at(request.getfixturevalue(url), directory, 20)) as program:
        program.expects("done")
        until(lambda: program.errors, what="the announcement")
        (line, *_) = program.errors
        found = re.fullmatch(
            r"trace-guard: waiting for Braintrust \(http://127.0.0.1:\d+\) to take \d+ rows, for at most (\d+) s.*\n",
            line,
        )
        assert found, line
        assert 16 <= int(found[1]) <= 20  # on an idle machine 19


def run(command: list[str], variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a ``trace-guard`` command."""
    assert command[0] == "trace-guard"
    return subprocess.run(
        [sys.executable, "-m", "trace_guard", *command[1:]], env={**os.environ, **variables}, capture_output=True,
        text=True, timeout=60,
    )


def test_what_is_left_is_reported(directory: Path) -> None:
    """At the end of the wait a process says how many rows are left, why, and where, and the command that it names
    sends them."""
    with BraintrustServer() as server:
        server.fail("/logs3", Fault.status(503))
        variables = environment(server, directory, TRACE_GUARD_EXIT_TIMEOUT="1.5")
        with Program(INVOKES, variables) as program:
            program.ends_well()
            said = program.errors[-1]
        assert re.match(r"trace-guard: \d+ rows not delivered to Braintrust \(http://.*\): .* answered 503: ", said)
        assert f"They are kept in {directory};" in said
        server.heal()
        done = run(shlex.split(said.split("`")[1]), {**variables, "TRACE_GUARD_DIR": ""})
        assert done.returncode == 0, done
        assert server.span_rows()
        assert journals(directory) == []


def test_without_a_key_nothing_is_waited_for(directory: Path) -> None:
    """Without a key the exit does not wait. The rows are kept, and the named command sends them once there is a key."""
    with BraintrustServer() as server:
        variables = environment(server, directory, TRACE_GUARD_BACKEND="braintrust", TRACE_GUARD_EXIT_TIMEOUT="60")
        began = time.monotonic()
        with Program(INVOKES, {**variables, "BRAINTRUST_API_KEY": ""}) as program:
            program.ends_well()
            said = program.errors[-1]
        assert time.monotonic() - began < 30
        assert "BRAINTRUST_API_KEY is not set. They are kept in" in said
        assert server.requests_to("/logs3") == []
        assert run(shlex.split(said.split("`")[1]), variables).returncode == 0
        assert server.span_rows()


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_key_is_not_waited_for(status: int, directory: Path) -> None:
    """The exit does not wait for a backend that refuses the key."""
    with BraintrustServer() as server:
        server.fail("/logs3", Fault.status(status))
        began = time.monotonic()
        with Program(JOB, environment(server, directory, TRACE_GUARD_EXIT_TIMEOUT="60")) as program:
            program.ends_well()
        assert time.monotonic() - began < 30
        assert not any("waiting for" in line for line in program.errors)
        assert f"answered {status}" in program.errors[-1]
        assert f"They are kept in {directory}" in program.errors[-1]
        assert all(line.startswith("trace-guard: ") for line in program.errors)


def test_a_backend_that_answers_is_not_mentioned(directory: Path) -> None:
    """A process whose rows are delivered at once says nothing."""
    with BraintrustServer() as server, Program(INVOKES, environment(server, directory)) as program:
        program.ends_well()
        assert program.errors == []


def test_a_directory_that_can_t_be_used(tmp_path: Path) -> None:
    """Without a usable directory, nothing claims that traces are kept there: they are in memory, and then lost."""
    (tmp_path / "file").write_text("")
    variables = environment(None, tmp_path / "file" / "state", BRAINTRUST_API_KEY="")
    with Program(INVOKES, variables) as program:
        program.ends_well()
    assert "Tracing goes on in memory" in program.errors[0]
    assert "are lost with the memory of this process" in program.errors[-1]
    assert "kept in" not in program.stderr


def test_an_empty_journal_is_no_problem(directory: Path) -> None:
    """A journal without undelivered rows and open spans, as a signal leaves it behind, is no problem, and goes with the
    next recovery."""
    with BraintrustServer() as server:
        variables = environment(server, directory)
        with Program(INVOKES + "    listen()", variables) as program:
            program.expects("done")
            until(lambda: server.span_rows() and not server.open_spans())
            until(lambda: pending_in(directory) == [])
            program.kill()
        assert len(journals(directory)) == 1
        done = {name: run(["trace-guard", name], variables) for name in ("status", "recover")}
        assert (done["status"].returncode, done["status"].stdout.splitlines()[-1]) == (0, "no problems")
        assert done["recover"].returncode == 0
        assert journals(directory) == []


def test_every_log_record_says_who_speaks(caplog: pytest.LogCaptureFixture) -> None:
    """Each record of the package's logger begins with its name, once."""
    logger.setLevel(logging.DEBUG)
    try:
        logger.debug("a row is lost")
        logger.error("trace-guard: %s", "it is back")
        warn_once("test:speaker", "127.0.0.1 answered %d", 401)
    finally:
        logger.setLevel(logging.NOTSET)
    assert caplog.messages == [
        "trace-guard: a row is lost", "trace-guard: it is back", "trace-guard: 127.0.0.1 answered 401"
    ]
