"""The command starts with the streams, signals and environment that it has without a supervisor."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from supervised import python
from support import REPOSITORY, environment, until

from trace_guard.testing import BraintrustServer, Fault

RUN = [sys.executable, "-m", "trace_guard", "run", "--"]
# Prints what a process inherits. `ls` opens the directory that it lists.
SURROUNDINGS = "ls /proc/self/fd; grep -E '^(Sig[^Q]|Shd|Umask)' /proc/self/status; umask; pwd; env | sort; cat"


@pytest.fixture
def env(server: BraintrustServer, directory: Path) -> dict[str, str]:
    return {**os.environ, **environment(server, directory), "PYTHONPATH": str(REPOSITORY)}


def test_the_surroundings_are_the_same(env: dict[str, str], tmp_path: Path) -> None:
    """Descriptors, signal handling, umask, working directory, input and output are unchanged, and the environment
    has two more variables."""
    env["LANG"] = "C"  # Python replaces this locale, also in its environment
    spare = os.open(os.devnull, os.O_RDONLY)

    def run(*before: str) -> list[str]:
        return subprocess.run(
            [*before, "sh", "-c", SURROUNDINGS], env=env, cwd=tmp_path, pass_fds=[spare], umask=0o027,
            input="in and out\n", capture_output=True, text=True, timeout=60,
        ).stdout.splitlines()

    try:
        plain, supervised = run(), run(*RUN)
    finally:
        os.close(spare)
    added = set(supervised) - set(plain)
    assert sorted(line.partition("=")[0] for line in added) == ["TRACE_GUARD_GRACE", "TRACE_GUARD_PARENT"]
    assert [line for line in supervised if line not in added] == plain
    assert plain[-1] == "in and out"


def test_ignored_signals_stay_ignored(env: dict[str, str]) -> None:
    """Signals that are ignored when the supervisor starts, as after ``nohup``, are ignored by the command, and its
    end is still noticed."""
    trap = (
        "import os, signal, sys; signal.signal(signal.SIGPIPE, signal.SIG_DFL); "
        "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); "  # Python itself ignores them
        "[signal.signal(one, signal.SIG_IGN) for one in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)]"
        "; os.execv(sys.argv[1], sys.argv[1:])"
    )

    def run(*before: str) -> tuple[int, str]:
        command = [sys.executable, "-S", "-c", trap, *before, "/bin/sh", "-c", "grep SigIgn /proc/$$/status; exit 3"]
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, timeout=60)
        return done.returncode, done.stdout

    supervised = run(*RUN)
    assert supervised == run()
    assert supervised[0] == 3


def test_a_pipeline_that_has_seen_enough_ends(env: dict[str, str]) -> None:
    """A command whose output pipe is closed ends by SIGPIPE."""
    pipeline = '"$@" yes | head -1; echo "${PIPESTATUS[0]}"'
    done = subprocess.run(
        ["bash", "-c", pipeline, "bash", *RUN], env=env, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "y\n141\n"


def test_readers_see_the_end_of_the_command(env: dict[str, str], server: BraintrustServer) -> None:
    """The command's pipes close when the command ends, before its trace is delivered."""
    server.fail("/logs3", Fault.black_hole())
    with subprocess.Popen([*RUN, "sh", "-c", "echo $$"], env=env, stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        command = int(process.stdout.read())
        assert process.poll() is None  # it waits up to 30 s for the backend
        until(lambda: not Path(f"/proc/{command}").exists(), what="the end of the command")
        # An interrupt ends the wait. It is repeated, as the supervisor may not have noticed the command's end yet.
        until(lambda: process.send_signal(signal.SIGINT) or process.poll() is not None, what="the end")
        assert process.returncode == 0


def test_a_dead_backend_holds_nothing_up(env: dict[str, str], server: BraintrustServer, directory: Path) -> None:
    """A backend that does not answer delays neither the start nor, beyond the exit timeout, the end; undelivered
    rows are on disk."""
    server.fail("*", Fault.black_hole())
    env["TRACE_GUARD_EXIT_TIMEOUT"] = "0.3"
    done = subprocess.run(
        [*RUN, *python("say('ran')")], env=env, capture_output=True, text=True, timeout=25
    )
    assert (done.returncode, done.stdout) == (0, "ran\n")
    (left,) = (directory / "journals").glob("[!.]*")
    assert server.span_rows() == []
    assert left.is_dir()


@pytest.mark.parametrize("trouble", ["settings", "directory", "off"])
def test_the_command_runs_without_a_trace(env: dict[str, str], tmp_path: Path, trouble: str) -> None:
    """The command runs untraced with invalid settings, without a writable directory, and when trace-guard is
    disabled."""
    variables = {
        "settings": {"TRACE_GUARD_LINGER": "soon"}, "directory": {"TRACE_GUARD_DIR": "/proc/no/such"},
        "off": {"TRACE_GUARD_DISABLED": "true"},
    }[trouble]
    command = ["sh", "-c", "echo ${TRACE_GUARD_PARENT:-none}; kill -9 $$"]
    done = subprocess.run(
        [*RUN, *command], env={**env, **variables}, cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == -9
    assert (done.stdout == "none\n") is (trouble != "directory")
    said = {
        "settings": "TRACE_GUARD_LINGER is 'soon'", "directory": "Tracing goes on in memory", "off": "",
    }[trouble]
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    if trouble == "off":
        assert done.stderr == ""
