"""A guarded job under the supervisor is one closed trace, however it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from supervised import python, supervised
from support import child_of, environment, until

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

JOB = """
    import os
    from trace_guard import guard_job, step

    @guard_job(name="job")
    def main():
        if os.environ["WAY"] == "grace":
            signal.signal(signal.SIGTERM, lambda *_: None)
        with step("step"):
            say("busy", os.environ["TRACE_GUARD_GRACE"])
            while sys.stdin.readline() != "end\\n":
                pass

    main()
"""
# What happens to each job, and its exit status.
WAYS: dict[str, tuple[int | None, int]] = {
    "ends": (None, 0), "SIGTERM": (signal.SIGTERM, -signal.SIGTERM), "SIGINT": (signal.SIGINT, -signal.SIGINT),
    "SIGKILL": (signal.SIGKILL, -signal.SIGKILL), "grace": (signal.SIGTERM, -signal.SIGKILL),
}


def spans_of(server: BraintrustServer, way: str) -> dict[str, Row]:
    """The spans of a trace by name; the root's name is ``way``."""
    rows = server.span_rows()
    root = next((row["root_span_id"] for row in rows if row["span_attributes"]["name"] == way), None)
    return {row["span_attributes"]["name"]: row for row in rows if row["root_span_id"] == root}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BraintrustServer]:
    """A server with the traces of all jobs, which ran in parallel."""
    with BraintrustServer() as server, ExitStack() as stack:
        programs = {
            way: stack.enter_context(supervised(
                python(JOB), environment(server, tmp_path_factory.mktemp(way), WAY=way, TRACE_GUARD_LINGER="0.1"),
                "--name", way, "--grace", "8",
            ))
            for way in WAYS
        }
        for program in programs.values():
            program.expects("busy", 6.8)
        # The SDK hands a span over some milliseconds after its start.
        until(lambda: all("step" in spans_of(server, way) for way in WAYS), what="the start of each step")
        for way, (number, _) in WAYS.items():
            if number is not None:
                os.kill(child_of(programs[way].pid) if number == signal.SIGKILL else programs[way].pid, number)
        programs["ends"].tell("end")
        programs["grace"].tell("go on")  # a signal that arrives before the read starts does not interrupt it
        until(lambda: "end" in spans_of(server, "grace").get("step", {}).get("metrics", {}), what="the end of the step")
        os.kill(child_of(programs["grace"].pid), signal.SIGKILL)
        for way, (_, status) in WAYS.items():
            assert programs[way].wait() == status, programs[way].stderr
        yield server


@pytest.mark.parametrize("way", WAYS)
def test_it_is_one_trace_and_closed(server: BraintrustServer, way: str) -> None:
    """The job is a child of the supervisor's root, its step a child of the job, and all three are closed."""
    spans = spans_of(server, way)
    assert {name: row["span_parents"] for name, row in spans.items()} == {
        way: None, "job": [spans[way]["span_id"]], "step": [spans["job"]["span_id"]],
    }
    assert server.open_spans() == []


@pytest.mark.parametrize(("way", "job", "root"), [
    ("ends", {"outcome": "ok"}, "ok"),
    ("SIGTERM", {"outcome": "terminated", "closed_by": "guard", "reason": "signal"}, "terminated"),
    ("SIGINT", {"outcome": "terminated"}, "terminated"),
    ("SIGKILL", {"outcome": "terminated", "closed_by": "supervisor", "reason": "SIGKILL"}, "terminated"),
    ("grace", {"outcome": "terminated", "closed_by": "guard", "reason": "signal"}, "terminated"),
])
def test_who_has_closed_it(server: BraintrustServer, way: str, job: dict[str, Any], root: str) -> None:
    """A job that gets SIGTERM closes its own trace, before its grace ends if it continues; the supervisor closes the
    trace of a killed job."""
    spans = spans_of(server, way)
    about = {key: spans["job"]["metadata"]["trace_guard"].get(key) for key in ("outcome", "closed_by", "reason")}
    assert about == {"closed_by": None, "reason": None, **job}
    assert spans[way]["metadata"]["trace_guard"]["outcome"] == root
