"""What a process still recovers and delivers at its exit."""

from __future__ import annotations

import time
from pathlib import Path

from support import Program, environment, pending_in, until

from trace_guard.testing import BraintrustServer

WITH_A_CHILD = """
from trace_guard import Guard
guard = Guard()
guard.start()
with guard.invocation("parent"):
    pid = os.fork()
    if not pid:
        with guard.invocation("child"):
            os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
"""

WITH_THREADS = """
import braintrust, threading
from trace_guard import Guard
guard = Guard(linger=0)

def goes_on():
    while True:
        with braintrust.start_span(name="background"):
            time.sleep(0.05)

with guard.invocation("root"):
    pass
for _ in range(10):
    threading.Thread(target=goes_on, daemon=True).start()
listen()
"""

WITHOUT_A_DISK = """
from trace_guard import Guard
with Guard().invocation("root"):
    say("runs")
"""


def test_an_exit_recovers_what_its_children_left(server: BraintrustServer, tmp_path: Path) -> None:
    """Open spans of a child that was just killed are closed and delivered when its parent exits."""
    with Program(WITH_A_CHILD, environment(server, tmp_path)) as program:
        assert program.wait() == 0, program.stderr
    outcomes = {row["span_attributes"]["name"]: row["metadata"]["trace_guard"]["outcome"] for row in server.span_rows()}
    assert outcomes == {"parent": "ok", "child": "abandoned"}
    assert server.open_spans() == []


def test_threads_that_go_on_tracing_leave_nothing_open(tmp_path: Path) -> None:
    """Daemon threads that trace until the process ends leave no span open: rows that come during the last delivery are
    not sent, and the disk has them whole."""
    with BraintrustServer(latency=0.1) as server:
        with Program(WITH_THREADS, environment(server, tmp_path)) as program:
            until(lambda: len(server.span_rows()) > 20)
            program.tell("exit")
            assert program.wait() == 0, program.stderr
        assert server.open_spans() == []
        sent = {row["id"] for row in server.span_rows()}
        begun = {row["id"] for row in pending_in(tmp_path) if "start" in row.get("metrics", {})}
        assert sent & begun == set()


def test_an_exit_does_not_wait_for_a_disk() -> None:
    """Without a key, and with a directory that can't be made, a process exits without waiting."""
    began = time.monotonic()
    with Program(WITHOUT_A_DISK, environment(None, Path("/proc/nowhere"), BRAINTRUST_API_KEY="")) as program:
        assert program.hears() == "runs"
        assert program.wait() == 0, program.stderr
    assert time.monotonic() - began < 15  # exit_timeout is 30
