"""One request after another through the WSGI middleware in one process: the CPU of its thread, and of the process.

Each way of tracing is a process of its own, asked in turns. The process's CPU includes what is delivered afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from backend import Backend
from report import Report, milliseconds, percentile
from service import LABELS, WAYS

__all__ = ["middleware"]

WARM_UP = 50
REQUESTS = 200
HERE = Path(__file__).parent


class Cost(NamedTuple):
    """Microseconds of CPU for each request, milliseconds that it took, voluntary switches, requests to the backend."""

    thread_us: float
    process_us: float
    p50: float
    p99: float
    switches: float
    requests: float


def middleware(report: Report, rounds: int = 3) -> None:
    """Every way of tracing, from a process that has warmed up."""
    costs: dict[str, list[Cost]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        for way in WAYS:
            costs[way].append(measured(way))
    report.table(
        f"one request through the WSGI middleware; best of {rounds} processes, {REQUESTS} requests each",
        ("CPU us, thread", "process", "p50 ms", "p99 ms", "switches", "backend requests"),
        {LABELS[way]: row(found) for way, found in costs.items()},
    )
    # Delivery shares requests in both, so that this compares like with like: one client alone can't share them where
    # each answer waits for its delivery.
    report.targets(*(
        (f"one request, after the response: CPU of the {name}, times the SDK's spans",
         best(costs["after"], field) / best(costs["sdk"], field), "at most", 2)
        for name, field in (("thread", "thread_us"), ("process", "process_us"))
    ))


def measured(way: str) -> Cost:
    with Backend() as backend, tempfile.TemporaryDirectory() as directory:
        environment = {
            **os.environ, **backend.environment, "TRACED": WAYS[way].way, **WAYS[way].variables,
            "TRACE_GUARD_DIR": directory, "K_SERVICE": "bench", "CLOUD_RUN_TIMEOUT_SECONDS": "300",
            "PYTHONPATH": str(HERE / "functions" / "service"),
        }
        command = [sys.executable, __file__, way]
        with subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdout.readline()
            before = backend.settled(lambda now: now.closed == WARM_UP or way == "no")
            process.stdin.write("go\n")
            process.stdin.flush()
            seconds = json.loads(process.stdout.readline())
            found = backend.settled(lambda now: now.since(before).closed == REQUESTS or way == "no").since(before)
            # The process reports what it used once everything has arrived.
            process.stdin.write("report\n")
            process.stdin.flush()
            used = json.loads(process.stdout.readline())
    return Cost(
        used["thread"] / REQUESTS * 1e6, used["process"] / REQUESTS * 1e6, milliseconds(seconds),
        percentile(seconds, 99), used["switches"] / REQUESTS, found.requests / REQUESTS,
    )


def row(costs: Sequence[Cost]) -> tuple[object, ...]:
    least = Cost(*map(min, zip(*costs, strict=True)))
    return (
        f"{least.thread_us:.0f}", f"{least.process_us:.0f}", least.p50, least.p99, least.switches,
        f"{least.requests:.2f}",
    )


def best(costs: Sequence[Cost], field: str) -> float:
    return min(getattr(cost, field) for cost in costs)


def child() -> None:
    import time

    from app import app
    from werkzeug.test import create_environ

    def ask(environ: dict[str, Any]) -> float:
        began = time.perf_counter()
        body = app.wsgi_app(environ, lambda status, headers, error=None: statuses.append(status))
        assert b"42" in b"".join(body)
        if hasattr(body, "close"):
            body.close()
        return time.perf_counter() - began

    def used() -> Mapping[str, float]:
        status = Path("/proc/thread-self/status").read_text()
        switches = int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])
        return {"process": time.process_time(), "thread": time.thread_time(), "switches": switches}

    statuses: list[str] = []
    for _ in range(WARM_UP):
        ask(create_environ("/"))
    environs = [create_environ("/") for _ in range(REQUESTS)]
    print(flush=True)
    sys.stdin.readline()
    before = used()
    seconds = [ask(environ) for environ in environs]
    thread = used()
    print(json.dumps(seconds), flush=True)
    sys.stdin.readline()
    # The waits for the backend's word are no requests: of the thread only what it had used until then.
    after = {**thread, "process": used()["process"]}
    assert set(statuses) == {"200 OK"}
    print(json.dumps({name: value - before[name] for name, value in after.items()}))


if __name__ == "__main__":
    child()
