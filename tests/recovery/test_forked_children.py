"""Children that a guarded parent forks later, as servers and task runners do."""

from __future__ import annotations

from pathlib import Path

from support import Program, environment, until

from trace_guard.testing import BraintrustServer

FORKING = """
from trace_guard import Guard
guard = Guard(linger=0)
guard.start()

def child(code):
    pid = os.fork()
    if not pid:
        code()
        guard.flush(10)
        os._exit(0)
    os.waitpid(pid, 0)

def is_killed():
    with guard.invocation("killed") as invocation:
        guard.pipeline.flush(invocation.deadline.capped(10))
        os.kill(os.getpid(), signal.SIGKILL)

def is_short():
    with guard.invocation("short"):
        pass

child(is_killed)
say("killed")
listen()
child(is_short)
say("done")
listen()
"""


def test_a_short_lived_child_recovers_what_its_sibling_left(server: BraintrustServer, tmp_path: Path) -> None:
    """A short-lived child closes what an earlier killed one left open, while their parent runs unguarded."""
    with Program(FORKING, environment(server, tmp_path)) as program:
        assert program.hears() == "killed"
        assert [row["span_attributes"]["name"] for row in until(server.open_spans)] == ["killed"]
        program.tell("go on")
        assert program.hears() == "done"
        until(lambda: not server.open_spans())
        outcomes = {
            row["span_attributes"]["name"]: row["metadata"]["trace_guard"]["outcome"] for row in server.span_rows()
        }
        assert outcomes == {"killed": "abandoned", "short": "ok"}
