"""Recovery of dead processes: spans get honest ends and are delivered once, however many processes recover."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from pathlib import Path

import pytest
from fixtures import MakeGuard
from support import (
    Program,
    end_row,
    environment,
    journals,
    pending_in,
    settings_for,
    start_row,
    still_open,
    until,
    without_place,
)

from trace_guard import Delivery, LocalStore, Recovery, Settings, recover
from trace_guard.journal.directory import JOURNALS, StateDir
from trace_guard.journal.invocation_record import InvocationRecord
from trace_guard.journal.journal import FileJournal
from trace_guard.journal.open_spans import OpenSpans
from trace_guard.journal.reader import read_entries
from trace_guard.journal.row_facts import NewRow
from trace_guard.rows import Row
from trace_guard.runtime.status import read_status
from trace_guard.testing import BraintrustServer, Fault

BUSY = """
    import braintrust
    from trace_guard import Deadline, Guard
    from trace_guard.runtime.watchdog import Watchdog
    if os.environ.get("WITHOUT_ALARM"):  # as if C code held the interpreter when it was time
        Watchdog._take_due = lambda self: []
    guard = Guard(linger=60)
    seconds = float(os.environ.get("SECONDS", "60"))
    with guard.invocation("root", deadline=Deadline.after(seconds)) as invocation:
        with braintrust.start_span("done", input=1) as done:
            done.log(output=2)
        outer = braintrust.start_span("outer")
        inner = outer.start_span("inner")
        inner.log(error="the user's own")
        braintrust.flush()
        say("busy")
        listen()
"""


def by_name(server: BraintrustServer) -> dict[str, Row]:
    return {row["span_attributes"]["name"]: row for row in server.span_rows()}


def sign_of_life(path: Path) -> float:
    """The last moment at which the process of a journal was alive."""
    return max((path / "lock").stat().st_mtime, *(entry.time for entry in read_entries(path)))


def forced(outcome: str) -> Row:
    return {"outcome": outcome, "closed_by": "recovery", "reason": "process_ended"}


# The honest end


def test_a_killed_process_s_spans_end_when_it_was_last_alive(server: BraintrustServer, directory: Path) -> None:
    """Open spans of a killed process are closed as abandoned at its last sign of life, not at the time of the
    repair."""
    with Program(BUSY, environment(server, directory)) as program:
        program.expects("busy")
        (path,) = journals(directory)
        last_row = max(entry.time for entry in read_entries(path))
        until(lambda: (path / "lock").stat().st_mtime > last_row + 0.5, what="the heartbeat")
        program.kill()
        killed = time.time()
    alive = sign_of_life(path)
    assert last_row + 0.5 < alive <= killed
    until(lambda: time.time() > killed + 0.3)
    pending = len(pending_in(directory))
    assert recover(settings_for(server, directory)) == Recovery(1, 3, pending + 3, 0, None)
    rows = by_name(server)
    assert {name: row["metrics"]["end"] for name, row in rows.items() if name != "done"} == dict.fromkeys(
        ["root", "outer", "inner"], alive
    )
    assert rows["done"]["metrics"]["end"] < alive
    assert {name: without_place(row) for name, row in rows.items()} == {
        "root": forced("abandoned"), "outer": forced("abandoned"), "inner": forced("abandoned"), "done": None
    }
    assert {name: row.get("error") for name, row in rows.items()} == {
        "root": "Abandoned: the process ended without closing this span", "outer": None, "inner": "the user's own",
        "done": None,
    }
    assert (rows["done"]["input"], rows["done"]["output"]) == (1, 2)
    assert journals(directory) == []


@pytest.mark.parametrize("late", [True, False])
def test_only_a_process_that_lived_to_its_deadline_has_timed_out(
    server: BraintrustServer, directory: Path, late: bool
) -> None:
    """A span is closed as timed out only if its process was alive at the deadline minus the reserve."""
    seconds = 1.0 if late else 6.0
    env = environment(server, directory, WITHOUT_ALARM="1", SECONDS=str(seconds))
    with Program(BUSY, env) as program:
        program.expects("busy")
        (path,) = journals(directory)
        (record,) = (
            InvocationRecord.from_row(json.loads(entry.payload)) for entry in read_entries(path) if entry.kind == 2
        )
        assert record.deadline is not None
        expected = pytest.approx((seconds, min(0.3, seconds / 5)), rel=0.1)
        assert (record.deadline - record.started, record.reserve) == expected
        until(lambda: (path / "lock").stat().st_mtime > record.started + 0.9, what="the heartbeat")
        program.kill()
    assert (sign_of_life(path) >= record.deadline - record.reserve) is late
    assert recover(settings_for(server, directory)).closed_spans == 3
    rows = by_name(server)
    outcome = "timed_out" if late else "abandoned"
    assert {rows[name]["metadata"]["trace_guard"]["outcome"] for name in ("root", "outer", "inner")} == {outcome}
    assert rows["root"]["error"] == (
        "TimedOut: the process was alive until its deadline and did not return" if late
        else "Abandoned: the process ended without closing this span"
    )
    assert server.open_spans() == []


# Journals without a process of their own


def orphans(state_dir: StateDir, settings: Settings, count: int, *, payload: int = 10, rows: int = 0) -> list[Row]:
    """Make journals as killed processes leave them, each with an open root and child. Returns their rows."""
    written = []
    for number in range(count):
        journal = FileJournal.create(state_dir, settings.destination, OpenSpans())
        root, child = f"root-{number}", f"child-{number}"
        record = InvocationRecord(f"id-{root}", root, root, started=1000.0)
        mine = [{**start_row(root), "input": "x" * payload}, start_row(child, parent=root, root=root)]
        mine += [
            {**start_row(f"more-{number}-{n}", parent=root, root=root), "metrics": {"start": 1.0, "end": 2.0},
             "output": "x" * payload} for n in range(rows)
        ]
        journal.begin(record, [NewRow.of(row) for row in mine])
        journal.abandon()
        written += mine
    return written


RECOVERER = """
    import json
    from trace_guard import recover
    say("ready")
    listen()
    say(json.dumps(recover(timeout=20).to_json()))
"""
STARTER = """
    from trace_guard import Deadline, Guard
    say("ready")
    listen()
    guard = Guard(linger=60).start()
    with guard.invocation("of a starter") as invocation:
        pass
    say(invocation.delivery.verdict.value)
    guard.close()
"""


def test_many_processes_recover_at_once(server: BraintrustServer, directory: Path, state_dir: StateDir) -> None:
    """Processes that recover the same directory at once all succeed, and every start and end is sent exactly once."""
    written = orphans(state_dir, settings_for(server, directory), 24, rows=3)
    server.latency = 0.02
    env = environment(server, directory)
    programs = [Program(RECOVERER if count % 2 else STARTER, env) for count in range(6)]
    try:
        for program in programs:
            program.expects("ready")
        for program in programs:
            program.tell()
        said = [program.hears(40) for program in programs]
        for program in programs:
            program.ends_well()
    finally:
        for program in programs:
            program.__exit__()
    assert [word for word in said if not word.startswith("{")] == ["delivered"] * 3
    for found in (Recovery(**json.loads(word)) for word in said if word.startswith("{")):
        assert (found.error is None) == (found.pending_rows == 0)
    assert recover(settings_for(server, directory)) == Recovery(0, 0, 0, 0, None)
    assert journals(directory) == []
    assert list((directory / JOURNALS).iterdir()) == []
    assert server.open_spans() == []
    # One process may send the start of a span while another one is about to write its end.
    sent = Counter((row["id"], fact) for request in server.requests for row in request.rows for fact in row["metrics"])
    due = [(row["id"], fact) for row in written for fact in ("start", "end")]
    assert {each: sent[each] for each in due} == dict.fromkeys(due, 1)


def test_the_rows_of_a_stopped_process_are_delivered_by_another(server: BraintrustServer, directory: Path) -> None:
    """Rows that a live process could not deliver are delivered by another one, and the first sends none of them
    again."""
    code = """
        import braintrust
        from trace_guard import Deadline, Guard
        guard = Guard(linger=60)
        with guard.invocation("ended") as invocation:
            pass
        open = guard.invocation("still running").open()
        say(invocation.delivery.verdict.value)
        listen()
        open.close()
        say(open.delivery.verdict.value, open.delivery.seconds < 1)
        guard.close()
    """
    settings = settings_for(server, directory)
    server.refuse_connections()
    with Program(code, environment(server, directory)) as program:
        program.expects("spooled")
        program.stop()
        server.accept_connections()
        found = recover(settings)
        assert (found.journals, found.closed_spans, found.pending_rows, found.error) == (0, 0, 0, None)
        assert found.delivered_rows > 0
        assert [row["span_attributes"]["name"] for row in server.open_spans()] == ["still running"]
        assert recover(settings) == Recovery(0, 0, 0, 0, None)
        program.go_on()
        program.tell()
        program.expects("delivered", True)
        program.ends_well()
    assert server.open_spans() == []
    sent = Counter(row["id"] for request in server.requests for row in request.rows)
    assert sent[by_name(server)["ended"]["id"]] == 1
    assert journals(directory) == []


def test_a_process_that_is_just_delivering_is_not_interfered_with(server: BraintrustServer, directory: Path) -> None:
    """While a process is stopped during a delivery, a recovery says so at once and changes nothing."""
    server.fail("/logs3", Fault.black_hole())
    with Program(STARTER, environment(server, directory, TRACE_GUARD_FLUSH_TIMEOUT="20")) as program:
        program.expects("ready")
        program.tell()
        server.wait_for(lambda: server.requests_to("/logs3"), 10)
        program.stop()
        server.heal()
        began = time.monotonic()
        found = recover(settings_for(server, directory), timeout=20)
        assert time.monotonic() - began < 5
        assert (found.delivered_rows, found.error) == (0, "the rest is being delivered by a process that still runs")
        assert found.pending_rows > 0
        program.go_on()
        program.expects("delivered")
        program.ends_well()
    assert server.open_spans() == []
    assert journals(directory) == []


def test_orphans_for_another_destination_are_left_alone(directory: Path, state_dir: StateDir) -> None:
    """A recovery leaves journals for another server, organisation, key or backend alone, and status lists them."""
    with BraintrustServer() as mine, BraintrustServer() as theirs:
        settings = settings_for(mine, directory)
        others = [
            settings_for(theirs, directory), settings_for(mine, directory, api_key="another"),
            settings_for(mine, directory, org_name="another"), settings_for(mine, directory, backend="local"),
            Settings.from_env({**environment(mine, directory), "BRAINTRUST_API_URL": ""}),
        ]
        for other in others:
            orphans(state_dir, other, 1)
        before = {file: file.read_bytes() for path in journals(directory) for file in path.iterdir()}
        assert recover(settings) == Recovery(0, 0, 0, 0, None)
        assert {file: file.read_bytes() for path in journals(directory) for file in path.iterdir()} == before
        assert mine.requests == theirs.requests == []
        status = read_status(settings)
        assert [one.ours for one in status.journals] == [False] * len(others)
        assert "5 journals of dead processes for another destination" in status.problems[0]
        assert recover(others[0]).journals == 1
        assert len(theirs.span_rows()) == 2
        assert theirs.open_spans() == []


@pytest.mark.parametrize("stumbles", [False, True])
def test_ends_come_before_the_backlog_of_payloads(
    server: BraintrustServer, directory: Path, state_dir: StateDir, stumbles: bool
) -> None:
    """Closing rows are delivered before the payloads of dead processes, even if the first attempt fails."""
    settings = settings_for(server, directory)
    written = orphans(state_dir, settings, 3, payload=90_000, rows=20)
    if stumbles:
        server.fail("/logs3", Fault.status(401), times=1)
    assert recover(settings).error is None
    requests = [request for request in server.requests if request.rows][1 if stumbles else 0:]
    must_end = {f"id-{kind}-{number}" for kind in ("root", "child") for number in range(3)}
    carried = 0
    for request in requests:
        ended = {row["id"] for row in request.rows if "end" in row["metrics"]} & must_end
        must_end -= ended
        carried += len(request.body)
        if not must_end:
            break
    assert must_end == set()
    assert carried < 600_000
    assert {row["id"] for row in server.span_rows()} == {row["id"] for row in written}
    assert sum(len(row.get("output") or "") for row in server.span_rows()) == 60 * 90_000
    assert server.open_spans() == []
    assert journals(directory) == []


def test_a_start_brings_the_ends_of_the_dead_with_its_first_request(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, state_dir: StateDir
) -> None:
    """The first request of a new process has its own rows and the ends of orphaned spans, and no large backlog."""
    orphans(state_dir, settings_for(server, directory), 2, payload=90_000, rows=20)
    guard = make_guard(linger=60)
    with guard.invocation("mine") as invocation:
        pass
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is Delivery.DELIVERED
    first = server.requests_to("/logs3")[0]
    ended = [row["id"] for row in first.rows if "end" in row["metrics"]]
    assert invocation.span.id in ended
    assert {f"id-{kind}-{number}" for kind in ("root", "child") for number in range(2)} <= set(ended)
    assert len(first.body) < 600_000
    until(lambda: pending_in(directory) == [])
    assert len(server.span_rows()) == 1 + 2 * 22
    assert server.open_spans() == []
    until(lambda: len(journals(directory)) == 1)


def test_a_recovery_without_a_backend_keeps_everything(server: BraintrustServer, directory: Path) -> None:
    """With a backend that is down a recovery closes and keeps everything, and the next one delivers it unchanged."""
    settings = settings_for(server, directory)
    with Program(BUSY, environment(server, directory)) as program:
        program.expects("busy")
        program.kill()
    (path,) = journals(directory)
    alive = sign_of_life(path)
    server.refuse_connections()
    first = recover(settings, timeout=1.5)
    assert (first.journals, first.closed_spans, first.delivered_rows) == (1, 3, 0)
    assert first.pending_rows == len(pending_in(directory))
    assert "did not answer" in str(first.error)
    assert still_open(pending_in(directory)) == set()
    (again,) = read_status(settings).journals
    assert (again.state, again.open_spans, again.pending_rows) == ("orphan", 0, first.pending_rows)
    server.accept_connections()
    second = recover(settings)
    assert second == Recovery(1, 0, first.pending_rows, 0, None)
    assert {name: row["metrics"]["end"] for name, row in by_name(server).items() if name != "done"} == dict.fromkeys(
        ["root", "outer", "inner"], alive
    )
    assert journals(directory) == []


@pytest.mark.parametrize("seed", range(5))
def test_a_recovery_that_is_killed_is_taken_up_by_the_next(
    server: BraintrustServer, directory: Path, state_dir: StateDir, seed: int
) -> None:
    """Recoveries that are killed at random lose nothing, change nothing by sending it twice, and give no wrong end."""
    chance = random.Random(seed)
    settings = settings_for(server, directory)
    written = orphans(state_dir, settings, 8, payload=3000, rows=5)
    for path in journals(directory):
        os.utime(path / "lock", (5_000_000_000.0, 5_000_000_000.0))  # long after all rows
    server.latency = 0.01
    for _ in range(3):
        with Program(RECOVERER, environment(server, directory)) as program:
            program.expects("ready")
            program.tell()
            limit = time.monotonic() + chance.uniform(0.0, 0.06)
            until(lambda limit=limit: time.monotonic() >= limit)
            program.kill()
    assert recover(settings).error is None
    assert {row["id"] for row in server.span_rows()} == {row["id"] for row in written}
    ends = {row["id"]: row["metrics"]["end"] for row in server.span_rows() if row["id"].startswith(("id-r", "id-c"))}
    assert ends == {f"id-{kind}-{number}": 5e9 for kind in ("root", "child") for number in range(8)}
    assert journals(directory) == []


def test_a_torn_recovery_does_not_mislead_the_next(
    server: BraintrustServer, directory: Path, state_dir: StateDir
) -> None:
    """If a recovery dies while it writes closing rows, the next one gives the missing ones the same end."""
    settings = settings_for(server, directory)
    orphans(state_dir, settings, 1)
    (path,) = journals(directory)
    os.utime(path / "lock", (5000.0, 5000.0))
    alive = sign_of_life(path)
    adopted = FileJournal.adopt(path, state_dir)
    assert adopted is not None
    adopted.append([NewRow.of(end_row("child-0", end=alive))])
    adopted.abandon()
    until(lambda: time.time() > alive + 0.05)
    assert recover(settings).closed_spans == 1
    assert {row["metrics"]["end"] for row in server.span_rows()} == {alive}


def test_a_journal_that_can_t_be_read_holds_up_no_other(
    server: BraintrustServer, directory: Path, state_dir: StateDir
) -> None:
    """Damaged or newer journals are left as they are, and all others are recovered."""
    settings = settings_for(server, directory)
    orphans(state_dir, settings, 4)
    first, second, third, _ = journals(directory)
    (first / "header").write_bytes(b"{")
    (second / "header").write_text(json.dumps({**json.loads((second / "header").read_text()), "format": 99}))
    shutil.rmtree(third)
    third.write_text("not a directory")
    assert recover(settings) == Recovery(1, 2, 4, 0, None)
    assert len(server.span_rows()) == 2
    assert server.open_spans() == []
    assert journals(directory) == [first, second, third]


def test_the_local_store_is_recovered_too(directory: Path) -> None:
    """Without a key the traces of a killed process are closed in the local store."""
    env = environment(None, directory, BRAINTRUST_API_KEY="", TRACE_GUARD_PROJECT_ID="")
    with Program(BUSY, env) as program:
        program.expects("busy")
        program.kill()
    assert recover(Settings.from_env(env)).closed_spans == 3
    rows = {row["span_attributes"]["name"]: row for row in LocalStore(directory / "traces.db").all_rows()}
    assert sorted(rows) == ["done", "inner", "outer", "root"]
    assert all("end" in row["metrics"] for row in rows.values())
    assert rows["root"]["metadata"]["trace_guard"] == forced("abandoned")
    assert journals(directory) == []


def test_an_empty_directory_has_nothing_to_recover(server: BraintrustServer, directory: Path) -> None:
    """In an empty directory a recovery finds nothing and sends no request."""
    assert recover(settings_for(server, directory)) == Recovery(0, 0, 0, 0, None)
    assert server.requests == []



@pytest.mark.parametrize("given", ["Deadly()", "{'deep': [Deadly()]}"])
def test_user_code_in_an_input_runs_behind_the_root(server: BraintrustServer, directory: Path, given: str) -> None:
    """An input whose own code kills the process leaves a root that the next start closes."""
    with Program(f"""
    from trace_guard import Guard

    class Deadly:
        def __repr__(self):
            os.kill(os.getpid(), signal.SIGKILL)

    Guard().invocation("root", input={given}).open()
    """, environment(server, directory)) as program:
        program.wait(20.0)
    recover(settings_for(server, directory), timeout=10)
    (root,) = server.span_rows()
    assert (root["span_attributes"]["name"], root["metadata"]["trace_guard"]["outcome"]) == ("root", "abandoned")
