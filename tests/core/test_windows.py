"""Local development where the names that Windows lacks do not exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support import REPOSITORY, Program, environment, journals

from trace_guard.testing import BraintrustServer

WITHOUT = "import braintrust, requests, without_posix\n"
GUARDED = """
    import braintrust, requests, without_posix
    from trace_guard import Guard, guard_job, process, step
    from trace_guard_lambda import guard_handler

    @guard_handler
    def handler(event, context):
        with braintrust.start_span("child"): return 5

    @guard_job(name="job", progress=False)
    def main():
        with step("step"): pass
        return sum(result.value for result in process(range(3), lambda item: item, name="item"))

    handler({}, None)
    say(main())
    with Guard().invocation("root") as invocation: pass
    say(invocation.delivery.verdict.name)
"""


def run(directory: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line without the names."""
    code = f"{WITHOUT}import sys\nfrom trace_guard.cli import main\nsys.exit(main())"
    paths = f"{REPOSITORY}:{REPOSITORY / 'adapters'}:{REPOSITORY / 'tests'}"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": paths, "TRACE_GUARD_DIR": str(directory), "COLUMNS": "200"},
    )


@pytest.mark.parametrize("has_key", [False, True])
def test_handlers_and_jobs_are_traced(server: BraintrustServer, directory: Path, has_key: bool) -> None:
    """Handlers, jobs, steps and items are delivered to Braintrust or to the local store, and nothing is left."""
    settings = environment(server, directory) if has_key else {"TRACE_GUARD_DIR": str(directory)}
    with Program(GUARDED, settings) as program:
        program.expects(3)
        program.expects("DELIVERED")
        program.ends_well()
        assert program.stderr.count("this system sends no SIGTERM") == 1
        assert "Traceback" not in program.stderr
    assert journals(directory) == []
    if has_key:
        assert len(server.span_rows()) == 8
        assert not server.open_spans()
        return
    listed = run(directory, "traces", "--json")
    assert (listed.stderr, listed.returncode) == ("", 0)
    assert "job" in listed.stdout


def test_what_a_killed_process_leaves_is_recovered(directory: Path) -> None:
    """The journal of a process that died is found, closed and removed by the command line."""
    with Program("""
    import braintrust, requests, without_posix
    from trace_guard import Guard
    with Guard().invocation("root"):
        os._exit(3)
    """, {"TRACE_GUARD_DIR": str(directory)}) as program:
        assert program.wait() == 3
    assert "1 of dead processes" in run(directory, "status").stdout
    recovered = run(directory, "recover")
    assert (recovered.stdout, recovered.stderr) == (
        "1 journal of dead processes: 1 open span closed, 2 rows delivered\n", "",
    )
    assert journals(directory) == []


@pytest.mark.parametrize("command", [("run", "--", "true"), ("demo",)])
def test_what_cant_be_had_is_said(directory: Path, command: tuple[str, ...]) -> None:
    """Commands that need signals and fork say so in one line, and what to use instead."""
    done = run(directory, *command)
    assert done.returncode != 0
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "needs" in done.stderr
