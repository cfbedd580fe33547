"""Spans that no deadline bounds are closed after a time without activity."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import braintrust
import pytest
from fixtures import MakeGuard
from support import PROJECT_ID, Program, end_row, environment, start_row, until

import trace_guard
from trace_guard import Guard, Settings
from trace_guard.journal.activity import Activity
from trace_guard.journal.row_facts import RowFacts
from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

TIMEOUT = 1.0
HERE = Path(__file__).name


@pytest.fixture
def logger(make_guard: MakeGuard) -> Any:
    """Logs spans of no invocation, in a process with the timeout."""
    make_guard(span_timeout=TIMEOUT, linger=0.05).start()
    return braintrust.init_logger(project_id=PROJECT_ID)


def stored(server: BraintrustServer) -> dict[str, Row]:
    return {row["span_attributes"]["name"]: row for row in server.span_rows()}


def closed(server: BraintrustServer, *names: str) -> bool:
    rows = stored(server)
    return all(name in rows and rows[name]["metrics"].get("end") for name in names)


def about(row: Row) -> dict[str, Any]:
    return dict((row.get("metadata") or {}).get("trace_guard") or {})


def test_quiet_spans_are_closed_where_they_last_moved(server: BraintrustServer, logger: Any) -> None:
    """Spans without activity are closed innermost first, at the last activity below them, with their place."""
    began = time.monotonic()
    outer = logger.start_span("outer")
    inner = outer.start_span("inner")
    inner.start_span("ended").end()
    leaves = [inner.start_span(f"leaf {number}") for number in range(250)]  # more than one write takes
    was_quick = time.monotonic() - began < TIMEOUT / 2  # else the first ones may time out before the last one begins
    until(lambda: closed(server, "outer", "inner"), what="the timeout")
    rows = stored(server)
    for name in ("outer", "inner"):
        place = about(rows[name]).pop("opened_at")
        assert place.startswith(f"{HERE}:")
        assert about(rows[name]) == {
            "outcome": "timed_out", "closed_by": "watchdog", "reason": "no_activity", "opened_at": place,
        }
        assert rows[name]["metrics"]["end"] < time.time() - TIMEOUT / 2
    sent = [row for request in server.requests for row in request.rows]
    ends = [row["id"] for row in sent if (row.get("metrics") or {}).get("end") and about(row)]
    assert {*ends} == {inner.id, outer.id, *(leaf.id for leaf in leaves)}
    assert ends[250:] == [inner.id, outer.id] or not was_quick


def test_the_real_end_wins(server: BraintrustServer, logger: Any) -> None:
    """A span that its code ends after the timeout has its own end, and no mark."""
    span = logger.start_span("slow")
    until(lambda: closed(server, "slow"), what="the timeout")
    span.end(end_time=time.time() + 100)
    until(lambda: stored(server)["slow"]["metrics"]["end"] > time.time() + 50 and not about(stored(server)["slow"]))


def test_activity_below_keeps_a_span_open(server: BraintrustServer, logger: Any) -> None:
    """Logs and spans below a span count for it, also below a child that has ended, and a span that is kept open keeps
    those above it."""
    for attempt in range(5):
        longest = _stays_open(server, logger, f"{attempt}")
        if longest < TIMEOUT / 2:
            return
    pytest.skip(f"the machine is too busy: a thread that logs all the time had to wait for {longest:.1f} s")


def _stays_open(server: BraintrustServer, logger: Any, trial: str) -> float:
    """Returns the longest pause between two logs. After a longer one than the timeout, nothing is checked."""
    busy = logger.start_span(f"busy {trial}")
    child = busy.start_span(f"child {trial}")
    deep = child.start_span(f"deep {trial}")
    child.end()
    waiting = logger.start_span(f"waiting {trial}")
    approval = waiting.start_span(f"approval {trial}")
    trace_guard.keep_open(approval, reason="waits for a person")
    quiet = logger.start_span(f"quiet {trial}")
    stop, longest = threading.Event(), 0.0

    def work() -> None:
        nonlocal longest
        before = time.monotonic()
        while not stop.wait(TIMEOUT / 10):
            deep.log(output="on")
            now = time.monotonic()
            longest, before = max(longest, now - before), now

    thread = threading.Thread(target=work)
    thread.start()
    try:
        until(lambda: closed(server, f"quiet {trial}"), what="the timeout")
        rows = {name: row for name, row in stored(server).items() if name.endswith(f" {trial}")}
        assert about(rows[f"quiet {trial}"])["reason"] == "no_activity"
        assert not rows[f"approval {trial}"]["metrics"].get("end")
        assert not rows[f"waiting {trial}"]["metrics"].get("end")
        still = {name.split()[0] for name, row in rows.items() if not row["metrics"].get("end")}
        assert still == {"busy", "deep", "waiting", "approval"} or longest >= TIMEOUT / 2
    finally:
        stop.set()
        thread.join()
        for span in (deep, busy, approval, waiting, quiet):
            span.end()
    return longest


def test_a_deadline_is_left_to_the_watchdog(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """An invocation without a deadline times out with its spans, and its code's end wins; one with a deadline does
    not."""
    guard = make_guard(span_timeout=TIMEOUT, linger=0.05)
    with guard.invocation("bounded", deadline=60):
        braintrust.start_span("within")
        thread = threading.Thread(target=_unbounded, args=(guard, server))
        thread.start()
        thread.join()
        assert not stored(server)["within"]["metrics"].get("end")
    row = stored(server)["unbounded"]
    assert about(row) == {"outcome": "ok"}


def _unbounded(guard: Guard, server: BraintrustServer) -> None:
    with guard.invocation("unbounded"), braintrust.start_span("step"):
        until(lambda: closed(server, "unbounded", "step"), what="the timeout")
        assert about(stored(server)["unbounded"])["outcome"] == "timed_out"


def test_watch_takes_one_line(server: BraintrustServer, directory: Path) -> None:
    """``watch()`` journals and delivers the spans of a plain program, closes what is quiet, and opens no root."""
    with Program("""
    import os, braintrust, trace_guard
    trace_guard.watch()
    logger = braintrust.init_logger(project_id=os.environ["TRACE_GUARD_PROJECT_ID"])
    logger.start_span("forgotten")
    say("open")
    listen()
    """, environment(server, directory, TRACE_GUARD_SPAN_TIMEOUT="0.3")) as program:
        program.expects("open")
        until(lambda: closed(server, "forgotten"), what="the timeout")
        program.kill()
    assert list(stored(server)) == ["forgotten"]
    assert about(stored(server)["forgotten"])["outcome"] == "timed_out"


def test_it_is_off_by_default() -> None:
    """There is no span timeout unless one is set."""
    assert Settings.from_env({}).span_timeout is None
    assert Settings.from_env({"TRACE_GUARD_SPAN_TIMEOUT": "2.5"}).span_timeout == 2.5


def test_ended_spans_are_forgotten() -> None:
    """Spans that have ended take no memory, whatever the timeout is."""
    activity = Activity()
    activity.note(RowFacts(start_row("root")))
    for n in range(2000):
        activity.note(RowFacts(start_row(f"child {n}", parent="root", root="root")))
        activity.note(RowFacts(start_row(f"deep {n}", parent=f"child {n}", root="root")))
        activity.note(RowFacts(end_row(f"child {n}", parent="root", root="root")))
        activity.note(RowFacts(end_row(f"deep {n}", parent=f"child {n}", root="root")))
    assert len(activity._nodes) < 1010
