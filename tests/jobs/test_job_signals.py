"""Signals during a job: it uses the grace period and no more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support import REPOSITORY, Program, environment, until, without_place

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer, Fault

FORCED = {"outcome": "terminated", "closed_by": "guard", "reason": "signal"}


def spans(server: BraintrustServer) -> dict[str, Row]:
    return {row["span_attributes"]["name"]: row for row in server.span_rows()}


def about(server: BraintrustServer) -> dict[str, Any]:
    """The guard's metadata of each span, by span name."""
    return {name: without_place(row) for name, row in spans(server).items()}


def closed(server: BraintrustServer) -> bool:
    return bool(server.span_rows()) and not server.open_spans()


def test_sigterm_within_a_step(server: BraintrustServer, directory: Path) -> None:
    """SIGTERM within a step closes and delivers the job with its step counts, although the backend fails at first, and
    then takes effect."""
    with Program("""
        from trace_guard import guard_job, process, step

        def work(item):
            if item == 1:
                say("busy")
                time.sleep(60)

        @guard_job
        def nightly():
            list(process(range(2), work, workers=1))

        nightly()
    """, environment(server, directory, CLOUD_RUN_JOB="evals", CLOUD_RUN_TASK_ATTEMPT="1")) as program:
        program.expects("busy")
        until(lambda: "evals" in spans(server), what="the first delivery")
        server.fail("/logs3", Fault.status(503), times=1)
        program.signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM
    assert server.open_spans() == []
    rows = spans(server)
    works = sorted((row for row in server.span_rows() if row["span_parents"]), key=lambda row: row["input"])
    assert [(row["input"], without_place(row)) for row in works] == [(0, None), (1, FORCED)]
    assert rows["evals"]["metadata"]["trace_guard"] == {
        **FORCED, "running": "work", "heartbeat": rows["evals"]["metadata"]["trace_guard"]["heartbeat"],
    }
    assert rows["evals"]["metadata"]["job"]["steps"] == {"done": 1, "failed": 0, "skipped": 0}
    assert rows["evals"]["metadata"]["job"]["attempt"] == 2
    assert rows["evals"]["error"].startswith("Terminated: SIGTERM came ")


def test_a_job_that_handles_sigterm_is_closed_before_the_kill(server: BraintrustServer, directory: Path) -> None:
    """A job whose own handler keeps it running is closed shortly before the SIGKILL, and its handlers are restored at
    its end."""
    with Program("""
        from trace_guard import default_guard

        signal.signal(signal.SIGTERM, lambda *_: say("theirs"))
        before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
        with default_guard().job("nightly", grace=2.0) as job:
            with job.step("step"):
                say("busy")
                while listen() != "end":
                    pass
        say((signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before, signal.set_wakeup_fd(-1))
    """, environment(server, directory)) as program:
        program.expects("busy")
        sent = time.time()
        program.signal(signal.SIGTERM)
        program.tell("go on")  # a signal before the read does not interrupt it
        program.expects("theirs")
        until(lambda: closed(server), what="the end of both spans")
        assert spans(server)["step"]["metrics"]["end"] - sent >= 2.0 * 0.75
        assert about(server)["step"] == FORCED
        assert about(server)["nightly"]["outcome"] == "terminated"
        # The grace period was longer than configured, so the real end counts.
        program.tell("end")
        program.expects("True -1")
        program.ends_well()
    assert (about(server)["step"], about(server)["nightly"]["outcome"]) == (None, "ok")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no namespaces of processes")
def test_a_job_with_process_id_1(server: BraintrustServer, directory: Path) -> None:
    """A job with process id 1, which a signal does not end, is closed before it is killed."""
    code = """
import os
from trace_guard import guard_job, step
from trace_guard.jobs import platforms

@guard_job(name="nightly", grace=1.0)
def main():
    with step("step"):
        print(os.getpid(), os.readlink("/proc/self"), flush=True)
        input()

main()
"""
    command = ["unshare", "--pid", "--fork", "--kill-child", sys.executable, "-c", code]
    if subprocess.run([*command[:4], "true"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody have a namespace of processes")
    path = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "adapters")])
    first = subprocess.Popen(
        command, env={**os.environ, **environment(server, directory), "PYTHONPATH": path},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )
    with first:
        assert first.stdin is not None
        assert first.stdout is not None
        inside, outside = first.stdout.readline().split()
        assert inside == "1"
        sent = time.time()
        os.kill(int(outside), signal.SIGTERM)
        until(lambda: closed(server), what="the end of both spans")
        assert spans(server)["step"]["metrics"]["end"] - sent >= 1.0 * 0.75
        os.kill(int(outside), signal.SIGKILL)
        first.wait(20)
    assert about(server)["step"] == FORCED
    assert about(server)["nightly"]["outcome"] == "terminated"


def test_jobs_leave_no_handlers_behind(make_guard: Any) -> None:
    """Consecutive jobs leave no handler, descriptor or thread behind, and nothing is installed outside the main
    thread."""
    guard = make_guard()
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def run() -> None:
        with guard.job("job"):
            during.append(signal.getsignal(signal.SIGTERM))

    during: list[Any] = []
    run()
    assert during[0] not in before
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
    descriptors = len(os.listdir("/dev/fd"))
    for _ in range(5):
        run()
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert during[-1] == before[0]
    until(lambda: not [one for one in threading.enumerate() if one.name == "trace-guard-signals"], what="their ends")
    assert len(os.listdir("/dev/fd")) <= descriptors


AT_A_POINT = """
import functools, importlib
from trace_guard import guard_job, step
module, kind, method, when = listen().split()
owner = getattr(importlib.import_module("trace_guard." + module), kind)
plain = getattr(owner, method)

@functools.wraps(plain)
def stopped(*args, **keywords):
    import threading
    main = threading.current_thread() is threading.main_thread()
    if main and when == "before":
        os.kill(os.getpid(), signal.SIGTERM)
    result = plain(*args, **keywords)
    if main and when == "after":
        os.kill(os.getpid(), signal.SIGTERM)
    return result

@guard_job(grace=10)
def main():
    with step("step"):
        pass

setattr(owner, method, stopped)
main()
"""


@pytest.mark.parametrize("point", [
    "runtime.pipeline Pipeline begin after", "jobs.job Job open after", "invocation.invocation Invocation _claim after",
    "invocation.closing Closing close_spans before", "journal.journal FileJournal append before",
])
def test_a_signal_while_a_job_opens_or_closes(server: BraintrustServer, directory: Path, point: str) -> None:
    """SIGTERM while a job opens or closes kills the process, whatever locks are held, and leaves no span open."""
    with Program(AT_A_POINT, environment(server, directory)) as program:
        program.tell(point)
        assert program.wait() == -signal.SIGTERM, program.stderr
    assert server.span_rows()
    assert server.open_spans() == []
