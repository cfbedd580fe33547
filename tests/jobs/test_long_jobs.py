"""Memory and disk use of jobs with many spans."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Program, end_row, environment, start_row

from trace_guard.journal.invocation_record import InvocationRecord
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.recent import RecentDict
from trace_guard.journal.row_facts import RowFacts
from trace_guard.testing import BraintrustServer, Fault

CAP = 8_000_000
OUTAGE, MORE = 1_000, 2_500

# The memory for ended spans is bounded. A small bound is reached early.
PROGRAM = f"""
    import gc, sys
    from pathlib import Path
    from trace_guard import default_guard
    from trace_guard.journal.recent import RecentDict

    RecentDict.limit = 500
    guard = default_guard()

    def work(job, count):
        for number in range(count):
            with job.step("step", input={{"number": number, "text": "x" * 200}}) as step:
                step.set_output("y" * 200)

    def blocks():
        while not guard.flush(10):
            time.sleep(0.01)
        gc.collect()
        return sys.getallocatedblocks()

    with guard.job("long") as job:
        work(job, {OUTAGE})
        size = sum(path.stat().st_size for path in Path(os.environ["TRACE_GUARD_DIR"]).rglob("*") if path.is_file())
        say(size)
        listen()
        before = blocks()
        work(job, {MORE})
        # Threads may still hold the rows of the last requests for a moment.
        deadline = time.monotonic() + 20
        while (grown := blocks() - before) >= {MORE} / 2 and time.monotonic() < deadline:
            time.sleep(0.05)
        say(grown)
"""


def test_a_long_job_stays_small(server: BraintrustServer, directory: Path) -> None:
    """While the backend is down, the journal stays within its cap; later every span is delivered whole, and a delivered
    span costs no memory."""
    server.fail("/logs3", Fault.status(503))
    # The SDK silently drops rows that do not fit its queue. This queue holds the rows of a few steps.
    variables = {"TRACE_GUARD_MAX_JOURNAL_BYTES": str(CAP), "BRAINTRUST_QUEUE_SIZE": "100"}
    with Program(PROGRAM, environment(server, directory, **variables)) as program:
        size = int(program.hears(60))
        assert OUTAGE * 800 < size < CAP
        server.heal()
        program.tell()
        grown = int(program.hears(60))
        program.ends_well()
    assert grown < MORE / 2  # one leaked object per span would add MORE
    assert server.open_spans() == []
    rows = server.span_rows()
    assert len(rows) == OUTAGE + MORE + 1
    steps = [row for row in rows if row["span_parents"]]
    assert sorted(row["input"]["number"] for row in steps) == sorted([*range(OUTAGE), *range(MORE)])
    assert {row["output"] for row in steps} == {"y" * 200}
    (root,) = [row for row in rows if not row["span_parents"]]
    assert root["metadata"]["job"]["steps"] == {"done": OUTAGE + MORE, "failed": 0, "skipped": 0}


def test_a_span_with_many_children_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """All spans below a root or a running step are known to belong to it, also beside another job of the same trace."""
    monkeypatch.setattr(RecentDict, "limit", 100)
    spans = OpenSpans()
    for name in ("a", "b"):
        spans.begin(InvocationRecord(root=f"id-{name}", span_id=name, root_span_id="trace", started=1000.0))
        spans.observe(RowFacts(start_row(name, parent="outside", root="trace")))
    spans.observe(RowFacts(start_row("step", parent="a", root="trace")))
    for number in range(3 * RecentDict.limit):
        child = f"child-{number}"
        spans.observe(RowFacts(start_row(child, parent="step", root="trace")))
        spans.observe(RowFacts(end_row(child, parent="step", root="trace")))
    spans.observe(RowFacts(start_row("last", parent="step", root="trace")))
    spans.observe(RowFacts(start_row("beside", parent="b", root="trace")))
    assert [span.name for span in spans.open_of("id-a")] == ["last", "step", "a"]
    assert [span.name for span in spans.open_of("id-b")] == ["beside", "b"]
    assert spans.unowned() == []
