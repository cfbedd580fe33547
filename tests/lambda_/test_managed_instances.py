"""Managed instances: several workers share an environment and a directory, and are never frozen."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from planted_keys import PLANTED_KEY
from support import PROJECT_ID, delivered, pending_in, until, without_place

from trace_guard.testing import BraintrustServer
from trace_guard.testing.managed_sandbox import ManagedSandbox

CODE = Path(__file__).parents[1] / "functions" / "managed_cases"
TIMEOUT = 1.5


@pytest.fixture
def function(server: BraintrustServer) -> Iterator[ManagedSandbox]:
    server.add_project("project", PROJECT_ID)
    env = {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
        "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "TRACE_GUARD_LINGER": "0.01",
    }
    with ManagedSandbox("app.handler", code=CODE, env=env, workers=3, timeout=TIMEOUT) as function:
        yield function


def spans(server: BraintrustServer) -> dict[str, dict[str, Any]]:
    """The spans by name; root spans, which all have the same name, by their logged input."""
    return {
        f"root {row.get('input', {}).get('n')}" if row["span_parents"] is None else row["span_attributes"]["name"]: row
        for row in server.span_rows()
    }


def about(row: dict[str, Any]) -> dict[str, Any]:
    return dict((row.get("metadata") or {}).get("trace_guard") or {})


def test_workers_share_a_directory_and_mix_nothing(
    server: BraintrustServer, function: ManagedSandbox, tmp_path: Path
) -> None:
    """Each of three concurrent workers has its own journal, and all traces are closed and delivered completely in
    the background. Nothing is logged about an extension, which can't register here."""
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(3) as pool:
        together = [pool.submit(function.invoke, {"n": n, "until": str(gate)}) for n in range(3)]
        until(lambda: len(server.open_spans()) == 6)  # all workers are busy, so each has its own
        gate.touch()
        results = [one.result().payload for one in together]
        results += [one.payload for one in pool.map(lambda n: function.invoke({"n": n}), range(3, 30))]
    assert [result["n"] for result in results] == [str(n) for n in range(30)]
    assert len({result["pid"] for result in results[:3]}) == 3
    assert len({(result["pid"], result["journal"]) for result in results}) == 3
    assert [one["before"][1] for one in results if one["before"]] == ["background"] * 27
    until(lambda: delivered(server) and len(server.span_rows()) == 90 and not pending_in(function.trace_guard_dir))
    by_trace: dict[str, list[dict[str, Any]]] = {}
    for row in server.span_rows():
        by_trace.setdefault(row["root_span_id"], []).append(row)
    assert len(by_trace) == 30
    for rows in by_trace.values():
        root, work, tool = sorted(rows, key=lambda row: row["metrics"]["start"])
        assert (work["span_parents"], tool["span_parents"]) == ([root["span_id"]], [work["span_id"]])
        assert work["span_attributes"]["name"] == f"work {root['input']['n']}"
        assert (tool["input"], about(root)) == ({"word": str(root["input"]["n"])}, {"outcome": "ok"})
        assert root["metadata"]["faas.coldstart"] is False
    assert "trace-guard" not in function.log


def test_another_worker_recovers_a_dead_one(
    server: BraintrustServer, function: ManagedSandbox
) -> None:
    """After SIGKILL of a worker, a living worker closes its open spans, without a start of any process."""
    waiting = threading.Thread(target=function.invoke, args=({"n": 1, "seconds": 60},))
    waiting.start()
    until(lambda: {"root 1", "work 1"} <= spans(server).keys())
    (pid,) = {int(path.name.split("-")[1]) for path in (function.trace_guard_dir / "journals").glob("[!.]*")}
    died_at = time.time()
    function.kill_worker(pid)
    waiting.join()
    assert function.invoke({"n": 2}).payload["pid"] != pid
    until(lambda: delivered(server) and len(server.span_rows()) == 6)
    found = spans(server)
    assert about(found["root 2"]) == {"outcome": "ok"}
    forced = {"outcome": "abandoned", "closed_by": "recovery", "reason": "process_ended"}
    assert [without_place(found[name]) for name in ("root 1", "work 1")] == [forced, forced]
    assert found["root 1"]["metrics"]["end"] <= died_at


def test_a_timeout_ends_the_trace_and_not_the_worker(server: BraintrustServer, function: ManagedSandbox) -> None:
    """At the timeout, a handler continues: its spans are closed and delivered shortly before, and other workers are
    not delayed."""
    with ThreadPoolExecutor(2) as pool:
        late = pool.submit(function.invoke, {"n": 1, "seconds": TIMEOUT + 0.5})
        until(lambda: "work 1" in spans(server))
        assert function.invoke({"n": 2}).status == "ok"
        assert late.result().status == "timed_out"
        until(lambda: delivered(server))
        found = spans(server)
        assert about(found["root 1"]) == {
            "outcome": "timed_out", "closed_by": "watchdog", "reason": "deadline", "running": "work 1",
        }
        assert found["root 1"]["metrics"]["end"] - found["root 1"]["metrics"]["start"] < TIMEOUT
        assert about(found["root 2"]) == {"outcome": "ok"}
