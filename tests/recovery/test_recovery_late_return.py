"""Processes that die around a late return: a written correction holds, and nothing else is corrected."""

from __future__ import annotations

from pathlib import Path

from support import Program, environment, journals, normal, pending_in, settings_for, traces_in, until

from trace_guard import Recovery, recover
from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

CODE = """
    import braintrust
    from trace_guard import Deadline, Guard
    guard = Guard(linger=60)
    with guard.invocation("root", deadline=Deadline.after(60)) as invocation:
        with braintrust.start_span("outer", input=1) as outer:
            inner = outer.start_span("inner")
            outer.start_span("forgotten")
            say("open")
            if listen() == "early":
                guard.pipeline.terminate("SIGTERM", Deadline.after(5))
                say("marked")
                listen()
            inner.log(output=2)
            inner.end()
        invocation.set_output("result")
    say(invocation.delivery.verdict.value)
    listen()
"""


def marked(server: BraintrustServer) -> list[Row]:
    """The spans that are marked as ended by the signal."""
    outcomes = [(row, (row.get("metadata") or {}).get("trace_guard", {}).get("outcome")) for row in server.span_rows()]
    return [row for row, outcome in outcomes if outcome == "terminated"]


def test_an_undelivered_correction_is_recovered(server: BraintrustServer, directory: Path) -> None:
    """If a process is killed after it wrote a correction and before it delivered it, recovery gives the trace its real
    end."""
    with Program(CODE, environment(server, directory, TRACE_GUARD_FLUSH_TIMEOUT="0.1")) as program:
        program.expects("open")
        program.tell("early")
        program.expects("marked")
        assert len(marked(server)) == 4
        server.refuse_connections()
        program.tell()
        program.expects("spooled")
        program.kill()
    server.accept_connections()
    pending = len(pending_in(directory))
    assert recover(settings_for(server, directory)) == Recovery(1, 0, pending, 0, None)
    with Program(CODE, environment(server, directory, TRACE_GUARD_FLUSH_TIMEOUT="30")) as program:
        program.expects("open")
        program.tell()
        program.expects("delivered")
        program.tell()
        program.ends_well()
    late, in_time = map(normal, traces_in(server.span_rows()))
    assert late == in_time
    assert journals(directory) == []


def test_a_process_killed_after_a_signal_stays_terminated(server: BraintrustServer, directory: Path) -> None:
    """A process that is killed after a signal, before its code ended, stays terminated."""
    with Program(CODE, environment(server, directory)) as program:
        program.expects("open")
        program.tell("early")
        program.expects("marked")
        until(lambda: len(marked(server)) == 4)
        program.kill()
    assert recover(settings_for(server, directory)).error is None
    assert len(marked(server)) == 4
    assert server.open_spans() == []
    assert [row for request in server.requests for row in request.rows if not row["_is_merge"]] == []
    assert journals(directory) == []
