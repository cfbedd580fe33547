"""Every cause of a stuck trace that Braintrust's support article names, made by real processes with the SDK alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from stuck import PROJECT, environment, reap, reaped

from trace_guard.testing import BraintrustServer

PROGRAM = Path(__file__).with_name("unguarded.py")
A_WHILE = 60.0
# What is left open, innermost first, and why.
CAUSES: dict[str, dict[str, str]] = {
    "never_ended": {"never_ended": "never_ended"},
    "forgotten_child": {"forgotten": "never_ended"},
    "crash": {"call": "killed_in_call", "crash": "killed_in_call"},
    "crash_at_once": {"crash_at_once": "start_only"},
    "network_lost": {"call": "killed_in_call", "network_lost": "killed_in_call"},
    "exception_past_the_end": {"exception_past_the_end": "child_error"},
    "parent_open": {"parent_open": "children_closed"},
}


def leave(server: BraintrustServer, causes: dict[str, Any]) -> float:
    """Run the program of each cause to its end. Returns when the last one had ended."""
    running = {
        cause: subprocess.Popen(
            [sys.executable, str(PROGRAM), cause], env=environment(server), stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ) for cause in causes
    }
    lost = running.pop("network_lost")
    for process in running.values():
        process.communicate(timeout=A_WHILE)
    assert lost.stdout is not None
    assert lost.stdout.readline() == b"open\n"
    server.refuse_connections()
    lost.communicate(b"\n", timeout=A_WHILE)
    server.accept_connections()
    return time.time()


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_each_cause_is_found_explained_and_closed(server: BraintrustServer) -> None:
    """Each cause is found with its place and explanation; afterwards no span is open, and every end is honest."""
    over = leave(server, CAUSES)
    before = {row["id"]: row for row in server.span_rows()}
    open_before = {row["id"] for row in server.open_spans()}
    limit = time.monotonic() + A_WHILE
    while True:
        traces = json.loads(reap(server, "--json", "--older-than", "1s").stdout)["traces"]
        if len(traces) == len(CAUSES):
            break
        assert time.monotonic() < limit, traces
    explained = {
        trace["name"]: {span["name"]: span["cause"] for span in trace["open_spans"]} for trace in traces
    }
    assert explained == CAUSES
    lines = PROGRAM.read_text().splitlines()
    for trace in traces:
        for span in trace["open_spans"]:
            place, _, function = span["place"].partition(" in ")
            assert f'start_span("{span["name"]}")' in lines[int(place.rpartition(":")[2]) - 1]
            assert (place.startswith("repair/unguarded.py:"), function) == (True, trace["name"])

    reap(server, "--close", "--older-than", "1s")
    assert server.open_spans() == []
    rows = {row["id"]: row for row in server.span_rows()}
    for id, row in rows.items():
        if id not in open_before:
            assert row == before[id]  # what had ended is as it was
            continue
        below = [row["metrics"]["start"], *(
            moment for child in before.values() if row["span_id"] in (child.get("span_parents") or ())
            for name, moment in child["metrics"].items() if name in ("start", "end")
        )]
        assert row["metrics"]["end"] == max(below) <= over
        assert reaped(row) is not None
    assert PROJECT in server._store.projects().values()
