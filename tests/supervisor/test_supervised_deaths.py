"""Spans that a command leaves open when it dies are closed and delivered before the supervisor exits."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from supervised import GUARDED, about, local, named, python, supervised
from support import Program, child_of, environment, journals, settings_for, still_open, until

from trace_guard import recover
from trace_guard.rows import Row
from trace_guard.supervisor.processes import children, is_dying
from trace_guard.testing import BraintrustServer


class Death(NamedTuple):
    """A way to die: the last line of a guarded program.

    Attributes:
        outcome: the outcome and reason of the spans that were open.
        error: the error of the program's root, without the outcome's name.
    """

    last_line: str
    status: int
    outcome: str
    reason: str
    error: str


DEATHS = {
    "sigkill": Death("os.kill(os.getpid(), 9)", -9, "terminated", "SIGKILL", "Terminated: killed by SIGKILL"),
    "sigsegv": Death("os.kill(os.getpid(), 11)", -11, "terminated", "SIGSEGV", "Terminated: killed by SIGSEGV"),
    "leaves": Death(
        "os._exit(3)", 3, "abandoned", "exit",
        "Abandoned: the process ended with exit status 3, without closing this span",
    ),
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, int], dict[str, list[Row]]]]:
    """The exit statuses of programs that died under the supervisor in parallel, and the rows of their traces."""
    with BraintrustServer() as server:
        running = {}
        for name, death in DEATHS.items():
            env = environment(server, tmp_path_factory.mktemp("state"))
            running[name] = supervised(python(GUARDED + " " * 8 + death.last_line), env, "--name", name)
        # Only the shell learns how its child died, and nobody learns it of a child that left the shell.
        env = environment(server, tmp_path_factory.mktemp("state"))
        command = python(GUARDED + " " * 8 + DEATHS["sigkill"].last_line)
        running["below a shell"] = supervised(["sh", "-c", '"$@"; exit $?', "sh", *command], env, "--name", "shell")
        statuses = {}
        for name, program in running.items():
            with program:
                statuses[name] = program.wait(60)
                assert "trace-guard: could not" not in program.stderr, program.stderr
        assert server.open_spans() == []
        rows = server.span_rows()
        roots = {row["root_span_id"]: row["span_attributes"]["name"] for row in rows if not row["span_parents"]}
        traces: dict[str, list[Row]] = {}
        for row in rows:
            traces.setdefault(roots[row["root_span_id"]], []).append(row)
        yield statuses, traces


def forced(outcome: str, reason: str) -> dict[str, str]:
    return {"outcome": outcome, "closed_by": "supervisor", "reason": reason}


@pytest.mark.parametrize("name", DEATHS)
def test_a_dead_command_s_spans_are_closed(stage: Any, name: str) -> None:
    """The supervisor closes a dead program's open spans with the cause of death, leaves ended spans unchanged, and
    keeps all in one trace."""
    statuses, traces = stage
    death = DEATHS[name]
    assert statuses[name] == death.status
    spans = {row["span_attributes"]["name"]: row for row in traces[name]}
    assert spans.keys() == {name, "job", "step", "done"}
    assert {one: about(spans[one]) for one in ("job", "step", "done")} == {
        "job": forced(death.outcome, death.reason), "step": forced(death.outcome, death.reason), "done": None,
    }
    assert (spans["job"].get("error"), spans["step"].get("error")) == (death.error, None)
    assert spans["done"]["output"] == 2
    assert spans["job"]["span_parents"] == [spans[name]["span_id"]]
    assert spans["job"]["metrics"]["end"] == spans["step"]["metrics"]["end"] == spans[name]["metrics"]["end"]


def test_a_death_below_a_shell_is_told_by_the_shell_s_status(stage: Any) -> None:
    """The exit status of a shell shows how its child died."""
    statuses, traces = stage
    assert statuses["below a shell"] == 137
    spans = {row["span_attributes"]["name"]: row for row in traces["shell"]}
    assert about(spans["job"]) == about(spans["step"]) == forced("terminated", "SIGKILL")
    assert spans["shell"]["error"] == "Error: exit status 137, as of SIGKILL"


def test_all_that_were_killed_together_are_closed(server: BraintrustServer, directory: Path) -> None:
    """After a whole process group is killed, the open spans of each of its processes are closed."""
    command = python(GUARDED + " " * 8 + "signal.pause()")
    script = ["sh", "-c", '"$@" & "$@" & wait', "sh", *command]
    with supervised(script, environment(server, directory), "--name", "root") as program:
        pids = {int(program.hears().split()[1]) for _ in range(2)}
        os.killpg(os.getpgid(min(pids)), signal.SIGKILL)
        assert program.wait() == -signal.SIGKILL
    assert server.open_spans() == []
    jobs = [row for row in server.span_rows() if row["span_attributes"]["name"] in ("job", "step")]
    assert [about(row) for row in jobs] == [forced("terminated", "SIGKILL")] * 4


def test_a_step_of_a_script_is_closed_while_the_script_goes_on(server: BraintrustServer, directory: Path) -> None:
    """The spans of a program that dies within a shell script are closed while the script continues."""
    command = python(GUARDED + " " * 8 + DEATHS["sigkill"].last_line)
    script = ["sh", "-c", '"$@"; read line', "sh", *command]
    with supervised(script, environment(server, directory), "--name", "root") as program:
        until(lambda: {row["span_attributes"]["name"] for row in server.open_spans()} == {"root"}
              and len(server.span_rows()) == 4, what="the end of the step")
        assert about(named(server, "job")) == about(named(server, "step")) == forced("abandoned", "process_ended")
        program.tell()
        program.wait()
    assert server.open_spans() == []


def test_the_memory_of_the_control_group_is_told_apart(
    server: BraintrustServer, directory: Path, memory_group: Path | None
) -> None:
    """The trace of a program that the kernel kills for memory has the reason ``oom``."""
    if memory_group is None:
        pytest.skip("no memory control group can be made here, and so the kernel kills nobody for its memory")
    command = python(GUARDED + " " * 8 + "held = [os.urandom(1 << 22) for _ in range(1000)]")
    join = "open(sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid()))"
    with Program(
        f"sys.argv[1:] = [{str(memory_group)!r}]; {join}\n"
        f"from trace_guard.cli import main; sys.exit(main({['run', '--name', 'root', '--', *command]!r}))",
        environment(server, directory),
    ) as program:
        assert program.wait(60) == -signal.SIGKILL
    assert server.open_spans() == []
    root = named(server, "root")
    assert root["error"] == "Terminated: killed by SIGKILL (out of memory)"
    assert root["metadata"]["process.oom_kills"] == 1
    assert about(named(server, "job")) == about(named(server, "step")) == forced("terminated", "oom")


def test_a_killed_supervisor_takes_the_command_along(server: BraintrustServer, directory: Path) -> None:
    """When the supervisor is killed the command dies too, and the next start of any program closes and delivers
    their open spans."""
    env = environment(server, directory)
    with supervised(python(GUARDED + " " * 8 + "signal.pause()"), env, "--name", "root") as program:
        _, child = program.hears().split()
        os.kill(program.pid, signal.SIGKILL)
        program.wait()
        until(lambda: not Path(f"/proc/{child}").exists() or is_zombie(int(child)), what="the death of the command")
    assert len(journals(directory)) == 2
    with supervised(["true"], env, "--name", "next") as program:
        program.ends_well()
    assert (recover(settings_for(server, directory)).closed_spans, journals(directory)) == (0, [])
    assert server.open_spans() == []
    lost = {"outcome": "abandoned", "closed_by": "recovery", "reason": "process_ended"}
    assert about(named(server, "root")) == about(named(server, "job")) == about(named(server, "step")) == lost
    assert still_open(row for request in server.requests for row in request.rows) == set()


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_orphans_are_reaped(directory: Path) -> None:
    """Processes that the command leaves behind do not become zombies, and those that run are left alone."""
    code = """
        if os.fork() == 0:
            if os.fork() == 0:
                say("orphan", os.getpid())
                signal.pause()
            os._exit(0)
        os.wait()
        sys.stdin.readline()
    """
    with supervised([sys.executable, "-S", *python(code)[1:]], local(directory)) as program:
        orphan = int(program.hears().split()[1])
        until(lambda: parent_of(orphan) == program.pid, what="the adoption")
        os.kill(orphan, signal.SIGTERM)
        until(lambda: not Path(f"/proc/{orphan}").exists(), what="the end of the orphan, and of what is left of it")
        assert child_of(program.pid)
        program.tell()
        program.wait()


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def test_who_is_being_killed_is_told_from_who_lives() -> None:
    """The supervisor waits for a process that is exiting, but not for one that lives on."""
    # A process whose main thread has ended is a zombie, even while other threads run and hold files.
    code = "import ctypes, threading\nthreading.Thread(target=listen).start()\nsay('here')\n"
    with Program(code + "ctypes.CDLL(None).pthread_exit(None)", {}) as ending, Program(code, {}) as living:
        for program in (ending, living):
            program.expects("here")
        until(lambda: is_dying(ending.pid), what="the end of the main thread")
        assert not is_dying(living.pid)
        assert children() >= {ending.pid, living.pid}
