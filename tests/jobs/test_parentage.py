"""Jobs below a span of another process."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Any

import pytest
from support import Program, environment, until

from trace_guard import Guard
from trace_guard.settings import PARENT_VARIABLE
from trace_guard.testing import BraintrustServer

CHILD = """
    from trace_guard import default_guard, guard_job

    @guard_job(name="child", tags=["nightly"])
    def main():
        with default_guard().invocation("within"):
            say("runs")
            listen()

    main()
    with default_guard().invocation("second", parent=""):
        pass
"""


def test_a_job_adopts_the_parent_of_its_environment(
    server: BraintrustServer, directory: Path, make_guard: Any
) -> None:
    """TRACE_GUARD_PARENT is the parent of the outermost invocation, whose tags are dropped; ``parent=""`` means no
    parent."""
    guard: Guard = make_guard()
    with guard.invocation("supervisor") as outer:
        exported = outer.span.export()
        with Program(CHILD, environment(server, directory, **{PARENT_VARIABLE: exported})) as child:
            child.expects("runs")
            child.tell()
            child.ends_well()
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert rows["child"]["span_parents"] == [rows["supervisor"]["span_id"]]
    assert rows["within"]["span_parents"] == [rows["child"]["span_id"]]
    assert {rows[name]["root_span_id"] for name in ("child", "within")} == {rows["supervisor"]["root_span_id"]}
    assert rows["second"]["span_parents"] is None
    assert "tags" not in rows["child"]
    assert server.open_spans() == []


def test_a_killed_child_is_recovered_below_its_parent(
    server: BraintrustServer, directory: Path, make_guard: Any
) -> None:
    """The next start closes a killed job below another process's span, and leaves the spans of the parent process
    open."""
    guard: Guard = make_guard()
    with guard.job("supervisor") as outer:
        with Program(CHILD, environment(server, directory, **{PARENT_VARIABLE: outer.span.export()})) as child:
            child.expects("runs")
            child.signal(signal.SIGKILL)
            child.wait()

        def open_and_closed() -> list[str]:
            still = {row["id"] for row in server.open_spans()}
            names = [(row["id"] in still, row["span_attributes"]["name"]) for row in server.span_rows()]
            return [name for is_open, name in sorted(names)]

        until(lambda: open_and_closed() == ["child", "within", "supervisor"],
              what="the recovery by a process beside it")
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert rows["child"]["metadata"]["trace_guard"]["outcome"] == "abandoned"
    assert rows["supervisor"]["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert rows["child"]["root_span_id"] == rows["supervisor"]["root_span_id"]


@pytest.mark.parametrize("malformed", ["", " ", "nonsense", "Ä", "AwEA", "BAEA", "{}", "x" * 5000])
def test_a_malformed_parent_costs_no_trace(
    server: BraintrustServer, make_guard: Any, malformed: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An unreadable parent, from the environment or from code, is logged once, and the job has its own trace."""
    guard: Guard = make_guard(parent=malformed)
    for parent in (None, malformed):
        with guard.invocation("work", parent=parent) as invocation:
            assert not invocation.span.span_parents
    until(lambda: len(server.span_rows()) == 2 and not server.open_spans(), what="both traces")
    assert len({row["root_span_id"] for row in server.span_rows()}) == 2
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == (1 if malformed.strip() else 0), warnings
    assert all("begins a trace of its own" in one and len(one) < 250 for one in warnings)
