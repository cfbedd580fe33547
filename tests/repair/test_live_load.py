"""The reaper at work beside a live load. ``make live-load`` runs it for a minute."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from stuck import PROJECT, environment, reaped, send, span

from trace_guard import Reaper, Settings
from trace_guard.testing import BraintrustServer


def test_nothing_live_is_closed(
    server: BraintrustServer, directory: Path, pytestconfig: pytest.Config
) -> None:
    """While 50 guarded invocations a second begin and end, long ones and a job with a heartbeat among them, a reaper
    that closes what is quiet for a second closes the dead traces and nothing else."""
    seconds = pytestconfig.getoption("live_seconds")
    settings = Settings.from_env(environment(server))
    program = Path(__file__).with_name("live_load.py")
    command = [sys.executable, str(program), str(seconds)]
    env = environment(server, TRACE_GUARD_DIR=str(directory))
    dead = closed = 0
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as load:
        while load.poll() is None:
            name = f"dead-{dead}"
            send(server, span("dead", trace=name, ago=1000), span("inner", "dead", trace=name, ago=990))
            dead += 1
            reaper = Reaper(settings, projects=[PROJECT], older_than=1.0)
            closed += reaper.close().closed
            reaper.disconnect()
        assert load.stdout is not None
        begun = int(load.stdout.read())
    limit = time.monotonic() + 60
    while server.open_spans() and time.monotonic() < limit:
        reaper = Reaper(settings, projects=[PROJECT], older_than=1.0)
        closed += reaper.close().closed
        reaper.disconnect()
    assert (load.returncode, server.open_spans()) == (0, [])
    by_reaper = [row for row in server.span_rows() if reaped(row)]
    assert {row["span_attributes"]["name"] for row in by_reaper} == {"dead", "inner"}
    assert (len(by_reaper), closed) == (2 * dead, dead)
    roots = [row for row in server.span_rows() if not row.get("span_parents") and not reaped(row)]
    assert len(roots) == begun + 1
    assert begun >= seconds * 49
