"""Segments are rotated and removed, the size is capped, files vanish: no end is ever lost."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import (
    Program,
    end_row,
    environment,
    journals,
    pending_in,
    rows_in,
    settings_for,
    start_row,
    still_open,
    until,
    without_place,
)

from trace_guard import Delivery, Guard, recover
from trace_guard.journal.directory import StateDir
from trace_guard.journal.format import Kind
from trace_guard.journal.invocation_record import InvocationRecord
from trace_guard.journal.journal import FileJournal
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.reader import read_entries, segments
from trace_guard.journal.row_facts import NewRow
from trace_guard.testing import BraintrustServer

# The size cap


def new_journal(state_dir: StateDir, max_bytes: int) -> FileJournal:
    return FileJournal.create(StateDir(state_dir.directory, max_bytes), {"backend": "memory"}, OpenSpans())


def test_payloads_go_first_then_new_spans_and_never_an_end(state_dir: StateDir) -> None:
    """Near its cap a journal drops inputs and outputs, then new spans, and never the end of a recorded span."""
    journal = new_journal(state_dir, 100_000)
    stages = []
    for count in range(1000):
        name = f"s{count}"
        journal.append([NewRow.of({**start_row(name), "input": "x" * 500})])
        written = rows_in(read_entries(journal.path))[-1]
        stages.append("dropped" if written["id"] != f"id-{name}" else "whole" if "input" in written else "cut")
        if stages[-1] == "cut":
            assert written == {**start_row(name), "metadata": {"trace_guard": {"payload_dropped": True}}}
    counts = {stage: stages.count(stage) for stage in ("whole", "cut", "dropped")}
    assert stages == [stage for stage, count in counts.items() for _ in range(count)]
    assert min(counts.values()) > 10
    assert journal.cap.dropped_spans == counts["dropped"]
    assert journal.size <= 0.9 * 100_000
    kept = counts["whole"] + counts["cut"]
    for count in range(1000):
        journal.append([NewRow.of({**end_row(f"s{count}"), "output": "y" * 500, "tags": [f"t{count}"]})])
    rows = rows_in(read_entries(journal.path))
    assert {row["id"] for row in rows} == {f"id-s{count}" for count in range(kept)}
    assert still_open(rows) == set()
    assert not any("output" in row for row in rows)
    assert journal.spans.all_open() == []
    journal.abandon()


def test_the_cap_counts_what_others_keep_in_the_directory(state_dir: StateDir) -> None:
    """The cap is for the whole directory: a journal beside a full one begins without payloads."""
    first = new_journal(state_dir, 100_000)
    while first.size < 80_000:
        first.append([NewRow.of({**start_row("a"), "input": "x" * 1000})])
    second = new_journal(state_dir, 100_000)
    second.append([NewRow.of({**start_row("b"), "input": "x" * 1000})])
    second.append([NewRow.of({**start_row("c"), "input": "x" * 1000})])
    assert ["input" in row for row in rows_in(read_entries(second.path))] == [True, False]
    first.abandon()
    second.abandon()


def test_room_is_made_by_delivery(state_dir: StateDir) -> None:
    """A full journal takes whole rows again once it is delivered."""
    journal = new_journal(state_dir, 100_000)
    for count in range(300):
        journal.append([NewRow.of({**start_row(f"s{count}"), "input": "x" * 1000})])
    assert journal.cap.dropped_spans > 0
    journal.append([NewRow.of(end_row(f"s{count}")) for count in range(300)])
    assert journal.take_delivery()
    journal.acknowledge(journal.end)
    journal.append([NewRow.of({**start_row("new"), "input": "x" * 1000})])
    assert rows_in(read_entries(journal.path))[-1] == {**start_row("new"), "input": "x" * 1000}
    journal.abandon()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["start", "merge", "end", "both"]), st.integers(0, 12), st.integers(1, 6)),
                max_size=60))
def test_no_sequence_of_rows_leaves_a_start_without_its_end(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    """Whatever is written near the cap, in whatever batches, a recorded span gets its end, and a dropped span gets no
    later row."""
    directory = tmp_path_factory.mktemp("cap")
    (directory / "journals").mkdir()
    journal = new_journal(StateDir(directory, 8_000), 8_000)
    offered: dict[str, list[int]] = {}
    number = 0
    for kind, name, repeated in steps:
        rows = []
        for _ in range(repeated):
            number += 1
            row = start_row(f"s{name}") if kind in ("start", "both") else end_row(f"s{name}", output="y" * 200)
            row["metrics"] = {"start": {"start": 1.0}, "merge": {}, "end": {"end": 2.0},
                              "both": {"start": 1.0, "end": 2.0}}[kind]
            rows.append(NewRow.of({**row, "input": "x" * 200, "number": number}))
            if "start" in row["metrics"]:
                offered.setdefault(row["id"], []).append(number)
        journal.append(rows)
    # What was never ended is ended now, as the guard does at the close.
    journal.append([NewRow.of({**span.identity, "metrics": {"end": 3.0}}) for span in journal.spans.all_open()])
    kept = rows_in(read_entries(journal.path))
    assert still_open(kept) == set()
    for row_id, starts in offered.items():
        numbers = {row["number"]: row for row in kept if row["id"] == row_id and "number" in row}
        if not any("start" in row["metrics"] for row in numbers.values()):
            assert all(before < starts[0] for before in numbers), "said of a span that there was no room for"
    journal.abandon()
    shutil.rmtree(directory)


def test_a_dropped_span_stays_dropped(state_dir: StateDir) -> None:
    """No later row of a dropped span is written, even when there is room again: it would have neither start nor end."""
    journal = new_journal(state_dir, 20_000)
    while not journal.cap.dropped_spans:
        journal.append([NewRow.of(start_row(f"s{journal.end.offset}-{journal.end.segment}"))])
    journal.append([NewRow.of(start_row("out"))])
    for span in journal.spans.all_open():
        journal.append([NewRow.of({**span.identity, "metrics": {"end": 3.0}})])
    assert journal.take_delivery()
    journal.acknowledge(journal.end)
    journal.append([NewRow.of({**end_row("out"), "metrics": {}, "output": "y"}), NewRow.of(end_row("out"))])
    journal.append([NewRow.of(start_row("in")), NewRow.of(end_row("in"))])
    assert journal.size < 5_000
    assert [row["id"] for row in rows_in(read_entries(journal.path))][-3:].count("id-in") == 2
    assert "id-out" not in {row["id"] for row in rows_in(read_entries(journal.path))}
    journal.abandon()


# Acknowledged segments


def test_acknowledged_segments_are_removed(state_dir: StateDir) -> None:
    """A segment is removed once it is acknowledged and a later one is written to."""
    journal = new_journal(state_dir, 65_536)
    ends = [journal.append([NewRow.of({**start_row(f"s{n}"), "metrics": {}, "input": "x" * 1500})]) for n in range(12)]
    assert segments(journal.path) == [1, 2, 3, 4, 5, 6]
    assert journal.take_delivery()
    for end in ends:
        journal.acknowledge(end)
        assert segments(journal.path) == list(range(end.segment, 7))
        left = [one for one in ends if one.segment >= end.segment]
        assert [entry.end for entry in read_entries(journal.path)] == left
    journal.abandon()


def test_open_spans_are_carried_before_their_segment_is_removed(state_dir: StateDir) -> None:
    """Before a segment is removed, its live invocations and open spans are written again, once."""
    journal = new_journal(state_dir, 65_536)
    record = InvocationRecord("id-root", "root", "root", started=1000.0, deadline=2000.0, reserve=0.5)
    journal.begin(record, [NewRow.of({**start_row("root"), "input": "secret"})])
    journal.append([NewRow.of({**start_row("child", parent="root", root="root"), "input": "secret"})])
    journal.append([NewRow.of(start_row("ended", parent="root", root="root"))])
    journal.append([NewRow.of(end_row("ended", parent="root", root="root"))])
    while journal.end.segment < 4:
        journal.append([NewRow.of({**end_row("ended", parent="root", root="root"), "output": "x" * 1000})])
    assert journal.take_delivery()
    for _ in range(2):
        journal.acknowledge(journal.end)
    entries = list(read_entries(journal.path))
    carried = [(entry.kind, json.loads(entry.payload)) for entry in entries if entry.kind != Kind.ROW]
    ids = ("id", "span_id", "root_span_id", "span_parents", "project_id", "log_id", "metrics")
    assert carried == [
        (Kind.INVOCATION, record.to_row()),
        *(
            (Kind.IDENTITY, {**{key: row[key] for key in ids}, "span_attributes": {"name": row["span_id"]}})
            for row in (start_row("root"), start_row("child", parent="root", root="root"))
        ),
    ]
    journal.abandon()
    adopted = FileJournal.adopt(journal.path, state_dir)
    assert adopted is not None
    assert [(span.row_id, span.owner, span.start) for span in adopted.spans.all_open()] == [
        ("id-child", "id-root", 1000.0), ("id-root", "id-root", 1000.0)
    ]
    assert adopted.spans.record_of("id-root") == record
    adopted.abandon()


LONG_JOB = """
    import braintrust
    from trace_guard import Deadline, Guard
    guard = Guard(max_journal_bytes=65536)
    with guard.invocation("job", deadline=Deadline.after(3600), metadata={"kept": True}) as invocation:
        outer = braintrust.start_span("outer", input="of outer")
        inner = outer.start_span("inner")
        for n in range(12):
            with braintrust.start_span("step") as step:
                step.log(input="x" * 1500)
            braintrust.flush()
            guard.pipeline.flush(Deadline.after(10))
        say("long after")
        listen()
"""


def test_a_span_whose_start_was_removed_is_closed_after_a_kill(server: BraintrustServer, directory: Path) -> None:
    """A long job that is killed after its start was acknowledged and removed is closed with its open spans, and keeps
    what it logged."""
    with Program(LONG_JOB, environment(server, directory)) as program:
        program.expects("long after")
        (path,) = journals(directory)
        assert segments(path)[0] > 3
        assert pending_in(directory) == []
        spans = {row["span_attributes"]["name"]: row for row in server.span_rows()}
        assert sorted(row["span_attributes"]["name"] for row in server.open_spans()) == ["inner", "job", "outer"]
        program.kill()
        killed = time.time()
    found = recover(settings_for(server, directory), timeout=10)
    assert (found.journals, found.closed_spans, found.pending_rows, found.error) == (1, 3, 0, None)
    assert server.open_spans() == []
    after = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    for name, error in (
        ("inner", None), ("outer", None), ("job", "Abandoned: the process ended without closing this span")
    ):
        row = after[name]
        expected = json.loads(json.dumps(spans[name]))
        expected["metrics"]["end"] = row["metrics"]["end"]
        expected.setdefault("metadata", {})
        expected["metadata"] = {**(expected["metadata"] or {}), "trace_guard": {
            "outcome": "abandoned", "closed_by": "recovery", "reason": "process_ended"
        }}
        row["metadata"]["trace_guard"] = without_place(row)
        assert row == (expected if error is None else {**expected, "error": error})
        assert spans[name]["metrics"]["start"] <= row["metrics"]["end"] <= killed
    assert journals(directory) == []


# Files that vanish

VANISHING = """
    import braintrust
    from trace_guard import Deadline, Guard
    guard = Guard(linger=60)
    def midway(word):
        braintrust.flush()
        say(word)
        listen()
    with guard.invocation("first"):
        braintrust.start_span("of first")
    with guard.invocation("second") as invocation:
        braintrust.start_span("before", input={"a": 1})
        midway("in second")
        with braintrust.start_span("after"):
            pass
        say(guard.pipeline.journal().durable)
        midway("late in second")
    say(invocation.delivery.verdict.value)
    listen()
    with guard.invocation("third") as invocation:
        midway("in third")
    say(invocation.delivery.verdict.value, guard.pipeline.journal().durable)
    guard.close()
"""


def the_journal(directory: Path) -> None:
    shutil.rmtree(journals(directory)[0])


def all_of_it(directory: Path) -> None:
    shutil.rmtree(directory)


def the_header(directory: Path) -> None:
    """Remove the header, as a cleaner does that goes by the age of each file."""
    (journals(directory)[0] / "header").unlink()


@pytest.mark.parametrize("vanishes", [the_journal, all_of_it, the_header])
def test_a_journal_that_is_removed_midway_costs_no_row(
    server: BraintrustServer, directory: Path, vanishes: Callable[[Path], None]
) -> None:
    """A process whose files are removed, between or within invocations, loses no row."""
    with Program(VANISHING, environment(server, directory)) as program:
        program.expects("in second")
        vanishes(directory)
        program.tell()
        program.expects(True)
        program.expects("late in second")
        program.tell()
        program.expects("delivered")
        vanishes(directory)
        program.tell()
        program.expects("in third")
        program.tell()
        program.expects("delivered", True)
        program.ends_well()
        assert "memory" not in program.stderr
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert sorted(rows) == ["after", "before", "first", "of first", "second", "third"]
    assert rows["before"]["input"] == {"a": 1}
    assert server.open_spans() == []
    assert recover(settings_for(server, directory)).pending_rows == 0


@pytest.mark.parametrize("vanishes", [the_journal, all_of_it, the_header])
def test_rows_that_are_only_in_removed_files_arrive(
    server: BraintrustServer, directory: Path, vanishes: Callable[[Path], None]
) -> None:
    """Undelivered rows of removed files arrive with the next delivery."""
    server.refuse_connections()
    with Program(VANISHING, environment(server, directory, TRACE_GUARD_FLUSH_TIMEOUT="0.1")) as program:
        program.expects("in second")
        program.tell()
        program.expects(True)
        program.expects("late in second")
        program.tell()
        program.expects("spooled")
        vanishes(directory)
        server.accept_connections()
        program.tell()
        program.expects("in third")
        program.tell()
        program.hears()
        program.ends_well()
    assert sorted(row["span_attributes"]["name"] for row in server.span_rows()) == [
        "after", "before", "first", "of first", "second", "third"
    ]
    assert server.open_spans() == []


@pytest.mark.parametrize("vanishes", [the_journal, all_of_it, the_header])
def test_a_kill_after_the_journal_was_removed_leaves_no_span_open(
    server: BraintrustServer, directory: Path, vanishes: Callable[[Path], None]
) -> None:
    """Spans whose start was delivered from files that were then removed are closed after a kill."""
    code = VANISHING.replace("linger=60", "linger=0")
    with Program(code, environment(server, directory)) as program:
        program.expects("in second")
        server.wait_for(lambda: len(server.open_spans()) == 2, 10)
        vanishes(directory)
        program.tell()
        program.expects(True)
        program.expects("late in second")
        server.wait_for(lambda: len(server.span_rows()) == 5, 10)
        program.kill()
    until(lambda: recover(settings_for(server, directory), timeout=10).error is None)
    assert server.open_spans() == []
    rows: dict[str, Any] = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert sorted(rows) == ["after", "before", "first", "of first", "second"]
    assert rows["second"]["metadata"]["trace_guard"]["outcome"] == "abandoned"
    assert rows["first"]["metadata"]["trace_guard"] == {"outcome": "ok"}


def test_a_trace_that_did_not_fit_is_not_called_delivered(server: BraintrustServer, directory: Path) -> None:
    """An invocation whose start the cap dropped reports LOST, and its code runs normally."""
    guard = Guard(settings_for(server, directory, max_journal_bytes=1))
    with guard.invocation("root") as invocation:
        done = True
    assert done
    assert invocation.delivery == Delivery(
        Delivery.LOST, error="the journal is full: this trace was not recorded"
    )
    assert server.rows() == []
    guard.close(timeout=1)
