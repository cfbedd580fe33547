"""Processes killed at random instants: whatever they were at, no span stays open, and none that had ended changes.

A run's seed is its name. ``pytest tests/chaos --chaos-seed SEED --chaos-runs 1`` repeats it.
"""

from __future__ import annotations

import os
import random
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import Program, environment, journals, settings_for, until
from witness import Witness, is_idle

from trace_guard import recover
from trace_guard.testing import BraintrustServer, Fault, LambdaSandbox

HERE = Path(__file__).parent
VICTIM = "import runpy, sys; sys.argv[1:] = [{seed!r}]; runpy.run_path({path!r}, run_name='__main__')"

pytestmark = [
    pytest.mark.chaos, pytest.mark.skipif(sys.platform != "linux", reason="processes are killed and frozen")
]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    runs = metafunc.config.getoption("chaos_runs")
    given = metafunc.config.getoption("chaos_seed")
    # Processes that share the tests among them have to agree about these.
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or uuid.uuid4().hex
    base = given if given is not None else int(run[:6], 16) * 1000
    metafunc.parametrize("seed", range(base, base + runs))


@pytest.fixture
def chance(seed: int) -> random.Random:
    return random.Random(seed)


def weather(chance: random.Random) -> Callable[[BraintrustServer], None]:
    """Faults of the server during a run."""
    latency = chance.choice((0.0, 0.0, 0.005, 0.03))
    faults = [Fault.status(500), Fault.reset(), Fault.ingest_then_drop(), Fault.slow(0.1), Fault.black_hole()]
    kind = chance.choice(("fine", "fine", "mixed", "mixed", "down", "refused"))
    dice = random.Random(chance.random())

    def injure(exchange: Any) -> Any:
        if dice.random() < 0.6:
            return exchange.answer()
        return dice.choice(faults[:-1]).injure(exchange)

    def begin(server: BraintrustServer) -> None:
        server.latency = latency
        if kind == "mixed":
            server.fail("/logs3", Fault("mixed", injure))
        elif kind == "down":
            server.fail("/logs3", chance.choice(faults))
        elif kind == "refused":
            server.refuse_connections()

    return begin


def assert_well(said: str) -> None:
    """No fault was contained, and the disk had no error."""
    assert "trace-guard: could not" not in said, said
    assert "goes on in memory" not in said, said


def clears_up(server: BraintrustServer) -> None:
    server.heal()
    server.accept_connections()
    server.latency = 0.0


def test_a_killed_process_leaves_no_span_open(
    seed: int, chance: random.Random, server: BraintrustServer, directory: Path
) -> None:
    """Whenever a process is killed, and whatever the server does, the next one closes its open spans and delivers the
    ended ones unchanged."""
    kind = chance.random()
    if kind < 0.2:
        killed_in_the_sandbox(chance, server, directory)
    else:
        killed_as_a_program(seed, chance, server, directory, by_line=kind < 0.65)


def killed_as_a_program(
    seed: int, chance: random.Random, server: BraintrustServer, directory: Path, *, by_line: bool
) -> None:
    witness = Witness()
    killed_at = 0.0
    for life in range(chance.choice((1, 1, 2))):
        weather(chance)(server)
        env = environment(server, directory)
        if by_line:
            env["KILL_AT_LINE"] = str(int(10 ** chance.uniform(1, 4.7)))
        if chance.random() < 0.2:
            env["INVOCATIONS"] = "3"  # the end is a part of a life, too
        with Program(VICTIM.format(seed=str(seed * 10 + life), path=str(HERE / "victim.py")), env) as victim:
            if not by_line:
                victim.expects("ready")
                limit = time.monotonic() + 10 ** chance.uniform(-3, -0.1)
                until(lambda limit=limit: time.monotonic() >= limit or victim.ended)
            else:
                until(lambda: victim.ended, 30)
            victim.kill()
            killed_at = time.time()
            for line in victim.said():
                words = line.split()
                if words[0] == "done":
                    witness.returned[words[1]] = words[2]
            assert_well(victim.stderr)
            witness.was_full |= "new spans are not recorded" in victim.stderr
        # Requests that had been read when the process died are still being answered.
        clears_up(server)
        witness.look(directory)
        until(lambda: is_idle(server), what="the end of the last requests")
        witness.agrees_before(server)
    recovered(chance, server, directory)
    witness.agrees_after(server, killed_at)


def killed_in_the_sandbox(chance: random.Random, server: BraintrustServer, directory: Path) -> None:
    witness = Witness()
    killed_at = 0.0
    env = {**environment(server, directory), "TRACE_GUARD_FLUSH_TIMEOUT": "0.3"}
    with LambdaSandbox("app.handler", code=HERE / "function", env=env, timeout=3.0) as sandbox:
        for _ in range(chance.randint(1, 3)):
            weather(chance)(server)
            seconds = chance.choice((0.0, 0.02, 0.1))
            kill_after = chance.choice((None, 10 ** chance.uniform(-3, -0.5)))
            result = sandbox.invoke(
                {"spans": chance.randint(1, 6), "seconds": seconds}, kill_after=kill_after,
                deadline=chance.choice((None, 0.3)),
            )
            if result.status == "crashed":
                killed_at = time.time()
            assert_well(result.log)
            clears_up(server)
            if kill_after is None:
                assert result.status == "ok", result
        sandbox.kill()
        killed_at = time.time()
        witness.look(directory)
        until(lambda: is_idle(server), what="the end of the last requests")
        witness.agrees_before(server)
    recovered(chance, server, directory)
    witness.agrees_after(server, killed_at)


def recovered(chance: random.Random, server: BraintrustServer, directory: Path) -> None:
    """Recover in another process, sometimes after others that were killed while they tried."""
    settings = settings_for(server, directory)
    if chance.random() < 0.3:
        env = environment(server, directory, KILL_AT_LINE=str(int(10 ** chance.uniform(1, 4))))
        code = f"import sys; sys.path.insert(0, {str(HERE)!r})\nimport victim\n" \
               "victim.kill_at(int(os.environ['KILL_AT_LINE']))\nfrom trace_guard import recover\nrecover(timeout=5)"
        with Program(code, env) as recoverer:
            until(lambda: recoverer.ended, 30)
    found = recover(settings, timeout=15)
    assert (found.pending_rows, found.error) == (0, None)
    assert journals(directory) == []

