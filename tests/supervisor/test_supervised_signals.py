"""The supervisor forwards each signal once and leaves the command time to end."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from supervised import GUARDED, about, local, named, python, supervised
from support import REPOSITORY, Program, child_of, environment

from trace_guard.jobs.platforms import detect
from trace_guard.supervisor.grace import Grace
from trace_guard.testing import BraintrustServer

# Prints each signal that it receives, until SIGTERM.
NAMES = ["SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGWINCH", "SIGCONT", "SIGTERM"]
SIGNAL_PRINTER = f"""
    for name in {NAMES}:
        signal.signal(getattr(signal, name), lambda number, frame: say(signal.Signals(number).name))
    say("ready", os.getpgrp(), os.getpid())
    sys.stdin.readline()
"""


def test_every_signal_is_passed_on(directory: Path) -> None:
    """The command, in its own process group, receives each signal that the supervisor receives."""
    with supervised(python(SIGNAL_PRINTER), local(directory)) as program:
        _, group, pid = program.hears().split()
        assert group == pid != str(program.pid)
        for name in NAMES:
            os.kill(program.pid, getattr(signal, name))
            program.expects(name)
        program.tell()
        assert program.wait() == 0


@pytest.mark.parametrize("ends", ["by itself", "by force"])
def test_a_command_has_its_grace(server: BraintrustServer, directory: Path, ends: str) -> None:
    """After SIGTERM a command that ends in time closes its own trace; a slower one is killed, and its trace closed
    and delivered, before the platform's SIGKILL."""
    own = ends == "by itself"
    answer = "lambda *_: sys.exit(7)" if own else "signal.SIG_IGN"
    wait = f"signal.signal(signal.SIGTERM, {answer}); say('set'); sys.stdin.readline()"
    options = ["--name", "root", "--grace", "30" if own else "6"]
    with supervised(python(GUARDED + " " * 8 + wait), environment(server, directory), *options) as program:
        program.hears()
        program.expects("set")
        os.kill(program.pid, signal.SIGTERM)
        assert program.wait() == (7 if own else -signal.SIGKILL)
    assert server.open_spans() == []
    root, job = named(server, "root"), named(server, "job")
    if own:
        assert about(job) == {"outcome": "error"}
        assert (about(root), root["error"]) == ({"outcome": "error"}, "Error: exit status 7")
    else:
        words = "Terminated: killed by SIGKILL, as it did not end in time after SIGTERM"
        assert about(job) == {"outcome": "terminated", "closed_by": "supervisor", "reason": "SIGTERM"}
        assert (about(root), root["error"], job["error"]) == ({"outcome": "terminated"}, words, words)


@pytest.mark.parametrize(("variables", "given", "seconds"), [
    ({}, None, 30.0),
    ({"CLOUD_RUN_JOB": "job"}, None, 10.0),
    ({"CLOUD_RUN_JOB": "job", "TRACE_GUARD_GRACE": "45"}, None, 45.0),
    ({"TRACE_GUARD_GRACE": "45"}, 7.0, 7.0),
    ({"TRACE_GUARD_GRACE": "long"}, None, 30.0),
])
def test_where_the_grace_comes_from(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], given: float | None, seconds: float
) -> None:
    """The grace comes from the option, else the variable, else the platform (10 s for Cloud Run jobs, else 30 s),
    and the command gets a little less."""
    for name in ("CLOUD_RUN_JOB", "TRACE_GUARD_GRACE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    grace = Grace(given, detect())
    assert grace.seconds == seconds
    assert 0.8 * seconds < grace.for_command < grace.until_exit < seconds


def test_pid_1_ends_what_the_command_leaves(server: BraintrustServer, directory: Path) -> None:
    """As PID 1 the supervisor forwards SIGTERM, reaps, and lets leftover processes close their traces before they
    die with it."""
    if subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets us make no PID namespace")
    leave = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); say('set'); signal.pause()"
    background = python(GUARDED + " " * 8 + leave)
    run = ["run", "--name", "root", "--", "sh", "-c", '"$@" & read line; exit 5', "sh", *background]
    code = f"import sys; from trace_guard.cli import main; sys.exit(main({run!r}))"
    with Program(
        f"os.execvp('unshare', {['unshare', '--pid', '--fork', '--mount-proc', sys.executable, '-c', code]!r})",
        environment(server, directory),
    ) as program:
        program.hears()
        program.expects("set")
        program.tell()
        assert program.wait() == 5
    assert server.open_spans() == []
    assert about(named(server, "job")) == {"outcome": "error"}  # closed by the job itself, on SystemExit
    assert named(server, "root")["error"] == "Error: exit status 5"


def test_pid_1_exits_with_128_and_the_signal(directory: Path) -> None:
    """As PID 1 the supervisor exits with a shell's status for the signal, and forwards the SIGTERM that PID 1
    ignores by default."""
    if subprocess.run(["unshare", "--pid", "--fork", "--mount-proc", "true"], capture_output=True).returncode:
        pytest.skip("this machine lets us make no PID namespace")
    run = ["run", "--", "sh", "-c", "echo ready; exec sleep 60"]
    code = f"import sys; from trace_guard.cli import main; sys.exit(main({run!r}))"
    with Program(
        f"os.execvp('unshare', {['unshare', '--pid', '--fork', '--mount-proc', sys.executable, '-c', code]!r})",
        local(directory),
    ) as program:
        program.expects("ready")
        os.kill(child_of(program.pid), signal.SIGTERM)
        assert program.wait() == 128 + signal.SIGTERM


# A terminal


def read_until(terminal: int, words: str) -> str:
    said = ""
    limit = time.monotonic() + 20
    while words not in said:
        assert select.select([terminal], [], [], max(0.0, limit - time.monotonic()))[0], said
        said += os.read(terminal, 4096).decode()
    return said


def test_ctrl_c_interrupts_once_and_the_terminal_is_the_command_s(directory: Path) -> None:
    """On a terminal the command reads input and receives Ctrl-C once; Ctrl-Z stops the supervisor with it, and both
    continue together."""
    code = """
        heard = []
        signal.signal(signal.SIGINT, lambda *_: heard.append("INT"))
        say("ready", os.getpid())
        say("read", sys.stdin.readline().strip(), *heard)
        sys.stdin.readline()
        say("heard", *heard)
    """
    env = {**os.environ, **local(directory), "PYTHONPATH": str(REPOSITORY)}
    pid, terminal = pty.fork()
    if pid == 0:
        # A shell between the two, which leaves the terminal's process group to the supervisor.
        command = [sys.executable, "-m", "trace_guard", "run", "--", *python(code)]
        os.execve("/bin/sh", ["sh", "-c", 'set -m; "$@"; echo stopped; fg >/dev/null; echo "ended $?"', "sh", *command],
                  env)
    try:
        read_until(terminal, "ready")
        os.write(terminal, b"\x03typed\n")
        read_until(terminal, "read typed")
        os.write(terminal, b"\x1a")
        read_until(terminal, "stopped")
        os.write(terminal, b"more\n")
        assert "heard INT\r\n" in read_until(terminal, "ended 0")
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)
