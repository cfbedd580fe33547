"""The supervisor's root span and the trace that it belongs to."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from supervised import GUARDED, about, named, python, supervised
from support import PROJECT_ID, REPOSITORY, Program, environment, settings_for

from trace_guard import recover
from trace_guard.supervisor.exported import ExportedSpan
from trace_guard.testing import BraintrustServer


def test_supervisors_nest(server: BraintrustServer, directory: Path) -> None:
    """Nested supervisors and the program within are one trace."""
    inner = [sys.executable, "-m", "trace_guard", "run", "--name", "inner", "--", *python(GUARDED)]
    with supervised(inner, environment(server, directory), "--name", "outer") as program:
        program.hears()
        program.ends_well(60)
    spans = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert {name: row["span_parents"] for name, row in spans.items()} == {
        "outer": None, "inner": [spans["outer"]["span_id"]], "job": [spans["inner"]["span_id"]],
        "step": [spans["job"]["span_id"]], "done": [spans["job"]["span_id"]],
    }
    assert {row["root_span_id"] for row in spans.values()} == {spans["outer"]["root_span_id"]}
    assert {about(spans[name])["outcome"] for name in ("outer", "inner", "job")} == {"ok"}
    assert server.open_spans() == []


def test_without_a_project_the_command_gives_its_name(server: BraintrustServer, directory: Path) -> None:
    """The trace goes to the project of the option, else of the environment, else to one named after the root; a
    guarded command agrees, even before the id is known."""
    env = {**environment(server, directory), "TRACE_GUARD_PROJECT_ID": ""}
    running = [
        supervised(python(GUARDED), env, "--name", "nightly"),
        supervised(["true"], env, "--name", "option", "--project", "given"),
        supervised(["true"], {**env, "TRACE_GUARD_PROJECT": "variable"}, "--name", "setting"),
    ]
    for program in running:
        with program:
            program.ends_well(60)
    ids = {name: server.add_project(name) for name in ("nightly", "given", "variable")}
    assert named(server, "nightly")["project_id"] == named(server, "job")["project_id"] == ids["nightly"]
    assert named(server, "option")["project_id"] == ids["given"]
    assert named(server, "setting")["project_id"] == ids["variable"]


@pytest.mark.parametrize("parent", ["no span", "AwIAe30="])
def test_a_parent_that_can_t_be_read_is_nobody_s(server: BraintrustServer, directory: Path, parent: str) -> None:
    """With an unreadable parent the command starts a separate trace, and a warning says so."""
    env = environment(server, directory, TRACE_GUARD_PARENT=parent)
    with supervised(["true"], env, "--name", "root") as program:
        assert program.wait() == 0
        assert "the command starts a separate trace" in program.stderr
    assert named(server, "root")["span_parents"] is None


def test_a_long_name_is_cut(server: BraintrustServer, directory: Path) -> None:
    """A name that is too long for the environment does not keep the command from running."""
    with supervised(["true"], environment(server, directory, TRACE_GUARD_PROJECT_ID=""), "--name", "n" * 60_000) as one:
        assert one.wait() == 0
    (root,) = server.span_rows()
    assert root["span_attributes"]["name"] == "n" * 200


def test_an_environment_without_room_stays_as_it_is(server: BraintrustServer, directory: Path) -> None:
    """If trace-guard's variables exceed the kernel's limit, the command runs without them, and a warning says so."""
    parent = ExportedSpan.of_project(PROJECT_ID, None)._replace(propagated={"input": "i" * 98_150}).encode()
    env = environment(server, directory, TRACE_GUARD_PARENT=parent)
    assert 130_950 < len(f"TRACE_GUARD_PARENT={parent}") < 131_072  # Linux's limit for one variable
    with supervised(python("say(os.environ['TRACE_GUARD_PARENT'][-50:])"), env, "--name", "root") as program:
        program.expects(parent[-50:])
        program.ends_well()
        assert "has no room for our variables" in program.stderr
    assert named(server, "root")["input"] == "i" * 98_150


def test_a_command_in_another_directory_finds_the_same(server: BraintrustServer, tmp_path: Path) -> None:
    """A relative state directory is resolved by the supervisor, so a command that changes its working directory uses
    the same one."""
    (tmp_path / "app").mkdir()
    command = python("os.chdir('app')\n" + textwrap.dedent(GUARDED) + "    os.kill(os.getpid(), signal.SIGKILL)")
    words = ["run", "--name", "root", "--", *command]
    code = f"os.chdir({str(tmp_path)!r})\nfrom trace_guard.cli import main; sys.exit(main({words!r}))"
    with Program(code, environment(server, Path("state"))) as program:
        program.hears()
        assert program.wait() == -9
    assert server.open_spans() == []
    assert {row["span_attributes"]["name"] for row in server.span_rows()} == {"root", "job", "done", "step"}
    assert about(named(server, "step"))["closed_by"] == "supervisor"


@pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can become somebody else")
def test_a_command_that_becomes_another_user_is_told_of(server: BraintrustServer, directory: Path) -> None:
    """A warning says once that the spans of a command that changes its user can't be closed, and what to do."""
    code = "os.setgid(65534); os.setuid(65534); os.execvp('sh', ['sh', '-c', 'exit 3'])"
    with supervised(python(code), environment(server, directory), "--name", "root") as program:
        assert program.wait() == 3
        assert program.stderr.count("the command ran as user 65534") == 1
        assert "gosu app trace-guard run" in program.stderr


def test_no_thread_can_be_had_at_the_end(server: BraintrustServer, directory: Path) -> None:
    """If no thread can be started at the end, the exit status is unchanged and the trace is still closed and
    delivered."""
    code = """
    import threading
    start = threading.Thread.start
    def starts(thread):
        if thread.name == "trace-guard-finish":
            raise RuntimeError("can't start new thread")
        start(thread)
    threading.Thread.start = starts
    from trace_guard.cli import main
    sys.exit(main(["run", "--name", "root", "--", "sh", "-c", "exit 7"]))
    """
    with Program(code, environment(server, directory)) as program:
        assert program.wait() == 7
    assert named(server, "root")["error"] == "Error: exit status 7"
    assert server.open_spans() == []


def test_the_supervisor_does_without_the_sdk() -> None:
    """The supervisor does not import the SDK before the command starts."""
    loaded = "trace_guard.supervisor.trace, trace_guard.backends.braintrust, trace_guard.backends.local"
    code = f"import sys, {loaded}; print('braintrust' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_system_without_sigtimedwait_is_no_worse(server: BraintrustServer, directory: Path) -> None:
    """Without ``sigtimedwait``, as on macOS, signals are forwarded and traces closed in the same way."""
    command = python(GUARDED + " " * 8 + "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('set'); sys.stdin.read()")
    words = ["run", "--name", "root", "--grace", "1", "--", *command]
    code = f"del signal.sigtimedwait, signal.sigwaitinfo\nfrom trace_guard.cli import main; sys.exit(main({words!r}))"
    with Program(code, environment(server, directory)) as program:
        program.hears()
        program.expects("set")
        program.signal(15)
        assert program.wait() == -9
    recover(settings_for(server, directory))  # on a busy machine the short grace may leave something undelivered
    assert server.open_spans() == []
    assert about(named(server, "job"))["reason"] == "SIGTERM"
