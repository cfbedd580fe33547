"""An invocation whose root has a row before the invocation's record."""

from __future__ import annotations

from support import start_row

from trace_guard.journal.invocation_record import InvocationRecord
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.row_facts import RowFacts


def test_a_root_that_was_logged_first_belongs_to_its_invocation() -> None:
    """Old releases of the SDK log a row of the root before the invocation begins, and the invocation still owns it."""
    spans, row = OpenSpans(), start_row("root")
    spans.observe(RowFacts(row))
    spans.begin(InvocationRecord(root=row["id"], span_id="root", root_span_id="root", started=1000.0))
    spans.observe(RowFacts(row))
    assert [span.row_id for span in spans.open_of(row["id"])] == [row["id"]]
    assert spans.unowned() == []
