"""Supervised commands killed at random instants, or their supervisors: no span stays open, and none is missing.

A run's seed is its name. ``pytest tests/chaos/test_supervisor_chaos.py --chaos-seed SEED --chaos-runs 5`` repeats it.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import uuid
from pathlib import Path

import pytest
from support import Program, child_of, environment, is_alive, journals, settings_for, until
from witness import Witness, is_idle

from trace_guard import recover
from trace_guard.testing import BraintrustServer, Fault

VICTIM = Path(__file__).parent / "victim.py"
# Each is two programs, and so takes as long as several of the others.
_SHARE = 5

pytestmark = [pytest.mark.chaos, pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    given = metafunc.config.getoption("chaos_seed")
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    base = given if given is not None else int(run[:6], 16) * 1000
    runs = max(1, metafunc.config.getoption("chaos_runs") // _SHARE)
    metafunc.parametrize("seed", range(base, base + runs))


def test_nothing_stays_open_whoever_is_killed(seed: int, server: BraintrustServer, directory: Path) -> None:
    """A supervisor closes and delivers for a killed command. If the supervisor is killed, the command dies too and the
    next start does it. No span on disk is lost, and no ended one changes."""
    chance = random.Random(seed)
    whom = chance.choice(("command", "command", "supervisor"))
    if chance.random() < 0.4:
        server.fail("/logs3", chance.choice([Fault.status(500), Fault.reset(), Fault.ingest_then_drop()]))
    words = ["run", "--name", "root", "--", sys.executable, str(VICTIM), str(seed)]
    witness = Witness()
    env = environment(server, directory)
    with Program(f"from trace_guard.cli import main; sys.exit(main({words!r}))", env) as program:
        command = child_of(program.pid)
        if chance.random() < 0.8:
            program.expects("ready")
        limit = time.monotonic() + 10 ** chance.uniform(-3, -0.1)
        until(lambda: time.monotonic() >= limit)
        program.stop()  # so that the journals can be looked at before anybody repairs them
        os.kill(command if whom == "command" else program.pid, signal.SIGKILL)
        until(lambda: not is_alive(command), what="the end of the command")
        server.heal()
        for line in ([] if whom == "command" else program.said()):
            take_note(line, witness)
        witness.look(directory)
        if whom == "command":
            program.go_on()
            assert program.wait(30) == -signal.SIGKILL, program.stderr
            for line in program.said():
                take_note(line, witness)
        assert "trace-guard: could not" not in program.stderr, program.stderr
    over_at = time.time()
    if whom == "supervisor":
        assert recover(settings_for(server, directory), timeout=15).pending_rows == 0
    assert journals(directory) == []
    until(lambda: is_idle(server), what="the end of the last requests")
    agrees(witness, server, whom, over_at)


def take_note(line: str, witness: Witness) -> None:
    kind, *rest = line.split()
    if kind == "done":
        witness.returned[rest[0]] = rest[1]


def agrees(witness: Witness, server: BraintrustServer, whom: str, over_at: float) -> None:
    rows = {row["id"]: row for row in server.span_rows()}
    assert server.open_spans() == []
    assert witness.known - rows.keys() == set()
    if whom == "supervisor" and not rows:
        return  # before the first row was on disk, until when the command is held back
    (root,) = (row for row in rows.values() if row["span_attributes"]["name"] == "root")
    assert {row["root_span_id"] for row in rows.values()} == {root["root_span_id"]}
    by, reason = ("supervisor", "SIGKILL") if whom == "command" else ("recovery", "process_ended")
    for row_id in witness.open - {root["id"]}:
        about = rows[row_id]["metadata"]["trace_guard"]
        assert (about["closed_by"], about["reason"]) == (by, reason), rows[row_id]
        assert rows[row_id]["metrics"]["end"] <= over_at, rows[row_id]
    for row_id in witness.ended:
        assert rows[row_id]["metrics"]["end"] == witness.spans[row_id]["metrics"]["end"]
    outcome = root["metadata"]["trace_guard"]["outcome"]
    assert outcome == ("terminated" if whom == "command" else "abandoned"), root
