"""How a run of ``trace-guard reap`` goes: on a terminal, interrupted, on the local store, and from code."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from stuck import HOUR, PROJECT, environment, reap, reaped, rows_of, send, span

from trace_guard import Deadline, LocalStore, Reaper, Settings, SettingsError, keep_open
from trace_guard.testing import BraintrustServer, Fault

A_WHILE = 60.0
KEEPS_OPEN = """
import datetime, braintrust, trace_guard
logger = braintrust.init_logger(project="support-bot")
with logger.start_span("root") as root:
    approval = root.start_span("approval")
    trace_guard.keep_open(approval, reason="waits for a person", until=datetime.datetime(2100, 1, 1))
    root.start_span("forgotten")
    braintrust.flush()
    import os; os._exit(0)
"""


def stuck(server: BraintrustServer, count: int) -> None:
    send(server, *(span("root", trace=f"{number}", ago=HOUR * (2 + number / 10)) for number in range(count)))


def test_ctrl_c_stops_cleanly_and_a_second_run_goes_on(server: BraintrustServer) -> None:
    """Ctrl-C ends the run soon, says what is done, and leaves no trace half closed; a second run completes it."""
    stuck(server, 450)
    server.latency = 0.2
    command = [sys.executable, "-m", "trace_guard", "reap", "--project", PROJECT, "--close", "--parallel", "1"]
    with subprocess.Popen(
        command, env=environment(server), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        server.wait_for(lambda: len(server.open_spans()) < 450, timeout=A_WHILE)
        process.send_signal(signal.SIGINT)
        before = time.monotonic()
        out, error = process.communicate(timeout=A_WHILE)
    assert time.monotonic() - before < 20
    assert (process.returncode, error) == (130, "")
    left = len(server.open_spans())
    assert f"{450 - left} traces closed" in out
    assert "Interrupted. What is listed is complete; run the command again to go on." in out
    assert 0 < left < 450
    server.latency = 0
    assert f"{left} traces closed" in reap(server, "--close").stdout
    assert server.open_spans() == []


def test_a_trace_that_is_written_to_in_between_is_left_alone(server: BraintrustServer) -> None:
    """A trace that is written to after it was found and before it is closed stays open."""
    stuck(server, 3)
    reaper = Reaper(Settings.from_env(environment(server)), projects=[PROJECT])
    wake = {"id": "1-root", "span_id": "s-1-root", "project_id": "P", "log_id": "g", "_is_merge": True, "output": 1}
    answer = server.respond

    reads = []

    def respond(request: Any) -> Any:
        if b"_xact_id" in request.body and b"root_span_id IN" in request.body:
            reads.append(request)
            if len(reads) == 2:  # before they are closed
                send(server, wake)
        return answer(request)

    server.respond = respond  # type: ignore[method-assign]
    done = reaper.close()
    reaper.disconnect()
    assert (done.found, done.closed, done.left_alone) == (3, 2, 1)
    assert [row["id"] for row in server.open_spans()] == ["1-root"]


def test_keep_open_marks_a_span_of_the_sdk(server: BraintrustServer) -> None:
    """A span that waits for a person is kept open with what is above it; a sibling that was forgotten is closed."""
    subprocess.run([sys.executable, "-c", KEEPS_OPEN], env=environment(server), check=True, timeout=A_WHILE)
    approval = next(row for row in server.open_spans() if row["span_attributes"]["name"] == "approval")
    assert approval["metadata"]["trace_guard"]["keep_open"] == {"reason": "waits for a person", "until": 4102444800.0}
    limit = time.monotonic() + A_WHILE
    while "1 stuck trace, 1 open span" not in reap(server, "--older-than", "1s").stdout:
        assert time.monotonic() < limit
    reap(server, "--close", "--older-than", "1s")
    assert {row["span_attributes"]["name"] for row in server.open_spans()} == {"root", "approval"}


@pytest.mark.parametrize("until", ["tomorrow", True, float("nan")])
def test_keep_open_takes_a_time(until: Any) -> None:
    """A time that is none is a TypeError."""
    class Span:
        def log(self, **event: Any) -> None:
            raise AssertionError

    with pytest.raises(TypeError, match="until"):
        keep_open(Span(), reason="x", until=until)


def test_a_terminal_shows_the_progress(server: BraintrustServer) -> None:
    """On a terminal a bar shows the windows that have been searched, and a pause that the service asks for."""
    stuck(server, 2)
    server.latency = 0.3
    server.fail("/btql", Fault.status(429, retry_after=1), times=1)
    ours, its = pty.openpty()
    command = [sys.executable, "-m", "trace_guard", "reap", "--project", PROJECT]
    with subprocess.Popen(
        command, env=environment(server, TERM="xterm", COLUMNS="200"), stdout=subprocess.PIPE, stderr=its, text=True
    ) as process:
        os.close(its)
        shown = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            shown += part
        out, _ = process.communicate(timeout=A_WHILE)
    os.close(ours)
    assert "2 stuck traces" in out
    assert re.search(rb"/\d", shown)
    assert b"waiting 1 s, as the service asks" in shown


def test_the_local_store_is_repaired_too(directory: Path, tmp_path: Path, server: BraintrustServer) -> None:
    """`--backend local` finds, explains and closes the stuck traces of the local store, without a key."""
    store = LocalStore(directory / "traces.db")
    rows = [span("agent"), span("llm", "agent"), span("live", trace="2", ago=60), span("done", trace="3", took=1)]
    store.send([json.dumps({**row, "project_id": PROJECT}).encode() for row in rows], Deadline.after(30))
    local = {"BRAINTRUST_API_KEY": "", "TRACE_GUARD_DIR": str(directory)}
    text = reap(server, "--backend", "local", project=False, **local).stdout
    assert "killed inside a call  llm at code/app.py:3 in do_llm; agent at code/app.py:5 in do_agent" in text
    assert "1 trace closed, with 2 spans." in reap(server, "--backend", "local", "--close", **local).stdout
    found = {row["span_attributes"]["name"]: row for row in store.all_rows()}
    assert {name: reaped(row) for name, row in found.items()} == {
        "agent": "killed_in_call", "llm": "killed_in_call", "live": None, "done": None,
    }
    late = {**rows[1], "project_id": PROJECT, "_is_merge": True, "metrics": {"end": time.time()}}
    store.send([json.dumps(late).encode()], Deadline.after(30))
    assert "the marks are removed" in reap(server, "--backend", "local", "--close", **local).stdout
    store.close()
    empty = reap(server, "--backend", "local", project=False, **{**local, "TRACE_GUARD_DIR": str(tmp_path / "none")})
    assert "No stuck trace" in empty.stdout
    assert not (tmp_path / "none").exists()


def test_the_reaper_is_used_from_code(server: BraintrustServer) -> None:
    """`Reaper.find` yields traces with causes, `close` says what it has done, and a wrong value is a SettingsError."""
    send(server, span("agent"), span("llm", "agent"))
    reaper = Reaper(Settings.from_env(environment(server)), projects=[PROJECT], error="gone", limit=10)
    (trace,) = reaper.find()
    assert (trace.name, trace.cause.sentence, trace.spans) == ("agent", "killed inside a call", 2)
    assert [span.place for span in trace.open_spans] == ["code/app.py:3 in do_llm", "code/app.py:5 in do_agent"]
    closed: list[str] = []
    done = reaper.close(lambda trace: closed.append(trace.root_span_id))
    reaper.disconnect()
    assert (done.found, done.closed, done.closed_spans, closed) == (1, 1, 2, ["r-t"])
    assert all(row["error"] == "gone" for row in rows_of(server).values())
    with pytest.raises(SettingsError, match="below since"):
        Reaper(Settings.from_env(environment(server)), older_than=10, since=5)
