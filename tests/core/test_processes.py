"""Delivery at a process's exit, fork or explicit flush."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from support import Program, delivered, environment, pending_in, until, without_place

from trace_guard.testing import BraintrustServer, Fault

GUARDED = """
    import braintrust
    from trace_guard import Guard
    guard = Guard()
    def work():
        with guard.invocation("work"):
            with braintrust.start_span("step"):
                pass
"""


def test_a_normal_exit_delivers(server: BraintrustServer, directory: Path) -> None:
    """Spans outside any invocation are closed and delivered at a normal exit."""
    code = GUARDED + """
    guard.start()
    logger = braintrust.init_logger(project_id=os.environ["TRACE_GUARD_PROJECT_ID"])
    logger.start_span("left open").start_span("within")
    """
    with Program(code, environment(server, directory)) as program:
        program.ends_well()
    spans = {row["span_attributes"]["name"]: without_place(row) for row in server.span_rows()}
    closed = {"outcome": "ok", "closed_by": "guard", "reason": "exit"}
    assert spans == {"left open": closed, "within": closed}
    assert pending_in(directory) == []


def test_an_exit_waits_no_longer_than_told(server: BraintrustServer, directory: Path) -> None:
    """With a dead backend, an exit takes at most TRACE_GUARD_EXIT_TIMEOUT and keeps the rows for the next start."""
    server.fail("/logs3", Fault.black_hole())
    env = environment(server, directory, TRACE_GUARD_EXIT_TIMEOUT="0.3", TRACE_GUARD_FLUSH_TIMEOUT="0.1")
    with Program(GUARDED + "\n    work()\n    say('done')", env) as program:
        program.expects("done")
        program.ends_well(seconds=5)
    assert len({row["id"] for row in pending_in(directory)}) == 2
    server.heal()
    with Program(GUARDED + "\n    work()", env | {"TRACE_GUARD_EXIT_TIMEOUT": "20"}) as program:
        program.ends_well()
    assert delivered(server)
    assert len(server.span_rows()) == 4
    assert pending_in(directory) == []


def test_a_flush_of_the_sdk_arrives(server: BraintrustServer, directory: Path) -> None:
    """Outside an invocation, ``braintrust.flush()`` waits for delivery. Within one, the end of the invocation delivers,
    in one request."""
    code = GUARDED + """
    guard.start()
    logger = braintrust.init_logger(project_id=os.environ["TRACE_GUARD_PROJECT_ID"])
    with logger.start_span("outside"):
        pass
    braintrust.flush()
    say("flushed")
    listen()
    with guard.invocation("inside"):
        for n in range(5):
            with braintrust.start_span("step"):
                pass
            braintrust.flush()
    say("closed")
    listen()
    """
    with Program(code, environment(server, directory)) as program:
        program.expects("flushed")
        assert [row["span_attributes"]["name"] for row in server.span_rows()] == ["outside"]
        before = len(server.requests_to("/logs3"))
        program.tell()
        program.expects("closed")
        assert len(server.requests_to("/logs3")) == before + 1
        assert len(server.span_rows()) == 7
        program.tell()
        program.ends_well()
    assert delivered(server)


@pytest.mark.parametrize("how", ["os.fork", "multiprocessing"])
def test_a_fork_within_a_handler_does_no_harm(server: BraintrustServer, directory: Path, how: str) -> None:
    """A child that is forked within a handler can use the guard and exits, and the parent's trace is complete."""
    fork = {
        "os.fork": """
        pid = os.fork()
        if not pid:
            child()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        """,
        "multiprocessing": """
        import multiprocessing
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
        assert process.exitcode == 0
        """,
    }[how]
    code = GUARDED + """
    def child():
        with guard.invocation("child"):
            pass
    with guard.invocation("parent"):
        with braintrust.start_span("before"):
            pass
""" + fork + """
        with braintrust.start_span("after"):
            pass
    say("done")
    """
    # Only the parent prints "done": a child exits within its own branch.
    with Program(code, environment(server, directory)) as program:
        program.expects("done")
        program.ends_well()
    assert delivered(server)
    parents = {row["span_attributes"]["name"]: row["span_parents"] for row in server.span_rows()}
    root = next(row for row in server.span_rows() if row["span_attributes"]["name"] == "parent")
    assert parents["parent"] is None
    assert parents["before"] == parents["after"] == [root["span_id"]]
    assert "child" in parents


def test_the_watchdog_never_fires_into_a_later_invocation(server: BraintrustServer, directory: Path) -> None:
    """After a freeze beyond the deadline of an ended invocation, its alarm does not affect the next one."""
    code = GUARDED + """
    from trace_guard import Deadline
    for deadline in (0.5, 5.0):
        with guard.invocation("quick", deadline=Deadline.after(deadline)):
            pass
        say("ready")
        listen()
    with guard.invocation("slow", deadline=Deadline.after(0.5)):
        with braintrust.start_span("endless"):
            say("hanging")
            listen()
    """
    with Program(code, environment(server, directory)) as program:
        program.expects("ready")
        program.stop()
        frozen_at = max(row["metrics"]["end"] for row in server.span_rows())
        until(lambda: time.time() > frozen_at + 0.7)
        program.tell()
        program.go_on()
        program.expects("ready")
        program.tell()
        program.expects("hanging")
        server.wait_for(lambda: len(server.span_rows()) == 4 and delivered(server), timeout=10)
        outcomes = {
            (row["span_attributes"]["name"], row["metadata"]["trace_guard"]["outcome"]) for row in server.span_rows()
        }
        program.tell()
        program.ends_well()
    assert outcomes == {("quick", "ok"), ("slow", "timed_out"), ("endless", "timed_out")}
