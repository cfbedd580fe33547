from __future__ import annotations

from typing import Any

import pytest

from trace_guard.backends.summaries import SpanSummary, TraceSummary, spans_of, summarize

Row = dict[str, Any]

TRACEBACK = "Traceback (most recent call last):\n"
DURING = "During handling of the above exception, another exception occurred:\n"


def span(span_id: str, parent: str | None = None, *, root: str = "r", **fields: Any) -> Row:
    row: Row = {
        "id": f"id-{span_id}",
        "span_id": span_id,
        "root_span_id": root,
        "span_parents": [parent] if parent else None,
        "project_id": "p1",
        "log_id": "g",
        "metrics": {"start": 10.0, "end": 20.0},
        "span_attributes": {"name": span_id, "type": "task"},
    }
    row.update(fields)
    return row


def test_a_finished_trace() -> None:
    """A trace whose spans have all ended is summed up from its root, and ends with its last span."""
    rows = [
        span("child", "root", metrics={"start": 12.0, "end": 21.5}),
        span("root", metrics={"start": 10.0, "end": 20.0}),
    ]
    assert summarize(rows, {"p1": "support-bot"}) == [
        TraceSummary(
            root_span_id="r", name="root", project="support-bot", start=10.0, end=21.5, in_progress=False,
            outcome="ok", error=None, spans=2, open_spans=0,
        )
    ]  # fmt: skip


def test_in_progress() -> None:
    """A trace is in progress, without an end, as long as any span of it has none, even if its root has."""
    (trace,) = summarize([span("root"), span("child", "root", metrics={"start": 11.0})])
    assert (trace.in_progress, trace.end, trace.open_spans, trace.outcome) == (True, None, 1, "ok")


def test_open_root_has_no_outcome() -> None:
    """A root that has neither ended, nor failed, nor been tagged has no outcome yet."""
    (trace,) = summarize([span("root", metrics={"start": 11.0})])
    assert trace.outcome is None


@pytest.mark.parametrize(
    ("fields", "outcome"),
    [
        ({"metadata": {"trace_guard": {"outcome": "timed_out"}}, "error": "x"}, "timed_out"),
        ({"error": "ValueError: x"}, "error"),
        ({}, "ok"),
        ({"metadata": {"trace_guard": "odd"}}, "ok"),
    ],
)
def test_outcome(fields: Row, outcome: str) -> None:
    """The guard's own tag comes before the error field, and that before a plain end."""
    (trace,) = summarize([span("root", **fields)])
    assert trace.outcome == outcome


@pytest.mark.parametrize(
    ("error", "line"),
    [
        ("boom", "boom"),
        ("\n\n  first line  \nsecond", "first line"),
        (f'{TRACEBACK}  File "a.py", line 1, in f\n    g()\nValueError: no\n', "ValueError: no"),
        (f"{TRACEBACK}  File\nKeyError\n\n{DURING}\n{TRACEBACK}  File\nOSError: two\nlines", "OSError: two"),
        (f"ValueError: no\n\n{TRACEBACK}  File a", "ValueError: no"),
        (f"{TRACEBACK}  File a", "File a"),
        ({"message": "no"}, '{"message": "no"}'),
        ("  \n ", None),
        ("", None),
        (None, None),
    ],
)
def test_error_in_one_line(error: object, line: str | None) -> None:
    """An error is told by its first line, a traceback by the exception that came out of it."""
    (trace,) = summarize([span("root", error=error)])
    assert trace.error == line


def test_newest_first() -> None:
    """Traces are listed newest first, those of unknown start last."""
    rows = [
        span("a", root="old", metrics={"start": 1.0, "end": 2.0}),
        span("b", root="unknown", metrics={}),
        span("c", root="new", metrics={"start": 9.0, "end": 9.5}),
    ]
    assert [trace.root_span_id for trace in summarize(rows)] == ["new", "old", "unknown"]


def test_root_below_a_foreign_parent() -> None:
    """When every span has a parent, as under an adopted one, the earliest stands for the trace."""
    rows = [
        span("late", "mine", metrics={"start": 5.0, "end": 6.0}),
        span("mine", "foreign", metrics={"start": 4.0, "end": 7.0}),
    ]
    (trace,) = summarize(rows)
    assert (trace.name, trace.start, trace.end) == ("mine", 4.0, 7.0)


@pytest.mark.parametrize(
    ("owner", "project"),
    [
        ({"project_id": "p1"}, "p1"),
        ({"project_id": None, "experiment_id": "e1"}, "e1"),
        ({"project_id": None}, None),
    ],
)
def test_project_without_a_name(owner: Row, project: str | None) -> None:
    """Without a known name a trace is shown under the id of its project or experiment."""
    (trace,) = summarize([span("root", **owner)], {"other": "name"})
    assert trace.project == project


def test_json_keys() -> None:
    """A trace as JSON has the documented keys, in the documented order."""
    (trace,) = summarize([span("root")])
    assert list(trace.to_json()) == [
        "root_span_id", "name", "project", "start", "end",
        "in_progress", "outcome", "error", "spans", "open_spans",
    ]  # fmt: skip


def test_tree() -> None:
    """Spans come each below its parent and by their start, and those whose parent is missing at depth 0."""
    rows = [
        span("second", "root", metrics={"start": 14.0, "end": 15.0}),
        span("grandchild", "first", metrics={"start": 13.0, "end": 14.0}),
        span("lost", "nowhere", metrics={"start": 11.0, "end": 12.0}),
        span("first", "root", metrics={"start": 12.0, "end": 13.0}),
        span("root", metrics={"start": 10.0, "end": 20.0}),
        span("other", root="another trace"),
    ]
    assert [(one.name, one.depth, one.parent) for one in spans_of(rows, "r")] == [
        ("root", 0, None), ("first", 1, "root"), ("grandchild", 2, "first"), ("second", 1, "root"),
        ("lost", 0, "nowhere"),
    ]  # fmt: skip


def test_a_span() -> None:
    """A span says how long it took, how it ended, and who closed it and why."""
    about = {"outcome": "abandoned", "closed_by": "recovery", "reason": "left_open"}
    metrics = {"start": 1.0, "end": 3.5}
    row = span("llm", "root", error="gone", metadata={"trace_guard": about}, metrics=metrics)
    assert spans_of([row], "r") == [
        SpanSummary(
            id="id-llm", span_id="llm", root_span_id="r", parent="root", name="llm", type="task",
            start=1.0, end=3.5, duration=2.5, error="gone", outcome="abandoned",
            closed_by="recovery", reason="left_open", depth=0,
            metadata={"trace_guard": {"outcome": "abandoned", "closed_by": "recovery", "reason": "left_open"}},
        )
    ]  # fmt: skip


def test_span_json_keys() -> None:
    """A span as JSON has the documented keys, in the documented order."""
    (only,) = spans_of([span("root")], "r")
    assert list(only.to_json()) == [
        "id", "span_id", "root_span_id", "parent", "name", "type", "start", "end", "duration", "error", "outcome",
        "closed_by", "reason", "depth",
    ]  # fmt: skip


def test_circle_of_parents() -> None:
    """Spans that are each other's parents are all listed, once."""
    rows = [span("a", "b"), span("b", "a"), span("self", "self")]
    assert sorted(one.name for one in spans_of(rows, "r")) == ["a", "b", "self"]


def test_deep_trace() -> None:
    """A trace may nest deeper than Python recurses."""
    rows = [span(str(n), str(n - 1) if n else None) for n in range(5000)]
    assert spans_of(rows, "r")[-1].depth == 4999


def test_rows_that_are_not_spans() -> None:
    """Rows of datasets and feedback are no traces."""
    assert summarize([{"id": "1", "dataset_id": "d", "input": 1}, {"id": "2", "scores": {}}]) == []


ODD: list[object] = [None, 1, True, "text", [], {}, [[]], {"trace_guard": []}, 10**400, float("nan")]
FIELDS = [
    "id", "root_span_id", "span_parents", "project_id", "metrics", "span_attributes", "metadata", "error",
    "metrics.end",
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("field", FIELDS)
def test_odd_rows(field: str, odd: object) -> None:
    """A field of an odd type reads as unknown and never raises."""
    row = span("root")
    if field == "metrics.end":
        row["metrics"] = {"start": odd, "end": odd}
    else:
        row[field] = odd
    (trace,) = summarize([row])
    (only,) = spans_of([row], trace.root_span_id)
    assert only.span_id == "root"
    assert len(summarize([{}, {"span_id": odd}, {"span_id": "x"}])) <= 2
