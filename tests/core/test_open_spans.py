"""The set of open spans, and the order in which they are closed."""

from __future__ import annotations

import random
import time

from support import start_row

from trace_guard.journal.invocation_record import InvocationRecord
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.row_facts import RowFacts

RECORD = InvocationRecord(root="id-0", span_id="0", root_span_id="0", started=1000.0)
DEEP = 10_000


def test_a_deep_trace_is_closed_in_a_moment() -> None:
    """Ten thousand nested open spans are sorted, innermost first, in far less than a second."""
    spans = OpenSpans()
    spans.begin(RECORD)
    rows = [start_row(str(depth), parent=str(depth - 1) if depth else None, root="0") for depth in range(DEEP)]
    random.Random(0).shuffle(rows)
    for row in rows:
        spans.observe(RowFacts(row))
    began = time.process_time()
    left = spans.force("id-0")
    took = time.process_time() - began
    assert [span.name for span in left] == [str(depth) for depth in range(DEEP - 1, 0, -1)]
    assert took < 1.0


def test_spans_that_are_each_others_parents_are_closed() -> None:
    """Spans whose parents form a circle are all closed, after the spans below them."""
    spans = OpenSpans()
    spans.begin(RECORD)
    for name, parent in [("0", None), ("a", "b"), ("b", "a"), ("self", "self"), ("below", "a"), ("last", "below")]:
        spans.observe(RowFacts(start_row(name, parent=parent, root="0")))
    left = [span.name for span in spans.open_of("id-0")]
    assert sorted(left) == ["0", "a", "b", "below", "last", "self"]
    assert left.index("last") < left.index("below") < left.index("a")
