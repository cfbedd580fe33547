"""A service on gunicorn with 80 threads, and how its cost grows with clients, spans and payloads.

Server, clients and backend are processes of their own. All ways of tracing are served at once and asked in turns, so
that a busy moment of the machine hits all alike. CPU and switches include what is delivered after the answers.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from backend import ROUND_TRIP, Backend
from client import ask
from report import Report, milliseconds, percentile

__all__ = ["LABELS", "WAYS", "Traced", "clients", "cloud_run", "payloads", "ratio", "spans"]

HERE = Path(__file__).parent
WORK = 20
"""Milliseconds that each request waits for its model."""


class Traced(NamedTuple):
    """A way of tracing: what the app is told, and variables of the environment."""

    way: str
    variables: Mapping[str, str] = {}


WAYS = {
    "no": Traced("no"),
    "sdk": Traced("sdk"),
    "flush": Traced("flush"),
    "guard": Traced("guard"),
    "after": Traced("guard", {"TRACE_GUARD_FLUSH": "after-response"}),
}
LABELS = {
    "no": "no tracing",
    "sdk": "SDK, never flushed",
    "flush": "SDK, finally: flush()",
    "guard": "trace-guard",
    "after": "trace-guard, after the response",
}


COLUMNS = (
    "requests/s", "p50 ms", "p99 ms", "CPU us, thread", "process", "switches", "backend requests", "closed traces",
)


class Cost(NamedTuple):
    """Of one round; CPU, switches and requests to the backend are for each request of a client."""

    rate: float
    p50: float
    p99: float
    thread_us: float
    process_us: float
    switches: float
    requests: float
    closed: int
    asked: int


class Service:
    """The app under gunicorn, traced in one way, with a backend of its own."""

    def __init__(self, traced: Traced, stack: ExitStack) -> None:
        self.is_traced = traced.way != "no"
        self._backend = stack.enter_context(Backend())
        environment = {
            **os.environ, **self._backend.environment, "TRACED": traced.way, **traced.variables,
            "TRACE_GUARD_DIR": stack.enter_context(tempfile.TemporaryDirectory()),
            "K_SERVICE": "bench", "K_REVISION": "bench-1", "CLOUD_RUN_TIMEOUT_SECONDS": "300",
        }
        server = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", "80", "--timeout", "0", "app:app"],
            cwd=HERE / "functions" / "service", env=environment, stderr=subprocess.PIPE, text=True,
        )
        stack.callback(server.wait, 30)
        stack.callback(server.terminate)
        assert server.stderr is not None
        self._log = stack.enter_context(server.stderr)
        for line in self._log:
            if found := re.search(r"Listening at: (\S+)", line):
                self.url = found.group(1)
                break
        else:
            raise RuntimeError("gunicorn did not start")
        self.load(64, 1, f"work={WORK}")

    def load(self, clients: int, seconds: float, query: str) -> Cost:
        """What so many clients cost for so long."""
        usage, arrived = self._usage(), self._backend.arrived()
        answered = ask(f"{self.url}/?{query}", clients, seconds)
        count = len(answered.seconds)
        found = arrived
        if self.is_traced:
            found = self._backend.settled(lambda now: now.since(arrived).closed >= count).since(arrived)
        used = {name: value - usage[name] for name, value in self._usage().items()}
        return Cost(
            answered.rate, milliseconds(answered.seconds), percentile(answered.seconds, 99),
            used["threads"] / count * 1e6, used["process"] / count * 1e6, used["switches"] / count,
            found.requests / count if self.is_traced else 0.0, found.closed if self.is_traced else 0, count,
        )

    def _usage(self) -> dict[str, float]:
        with urllib.request.urlopen(f"{self.url}/usage") as response:
            found: dict[str, float] = json.load(response)
        return found


@contextmanager
def services(ways: Sequence[str]) -> Iterator[dict[str, Service]]:
    with ExitStack() as stack:
        yield {way: Service(WAYS[way], stack) for way in ways}


def cloud_run(report: Report, rounds: int = 5, seconds: float = 2.5) -> None:
    """64 clients."""
    with services(tuple(WAYS)) as running:
        costs = in_turns(running, 64, seconds, f"work={WORK}", rounds)
    report.table(
        f"gunicorn, 80 threads, 64 clients, {WORK} ms of work; median of {rounds} rounds",
        COLUMNS,
        {LABELS[way]: row(found) for way, found in costs.items()},
    )
    least = WORK + 2 * ROUND_TRIP * 1000 + 10
    report.targets(
        ("64 clients: CPU of the thread, times the SDK's spans", ratio(costs, "thread_us"), "at most", 1.5),
        ("64 clients: CPU of the process, times the SDK's spans", ratio(costs, "process_us"), "at most", 1.5),
        ("64 clients: requests/s, share of the SDK's without any flush", ratio(costs, "rate"), "at least", 0.7),
        ("64 clients: p50, ms", statistics.median(cost.p50 for cost in costs["guard"]), "at most", least),
        ("64 clients: requests to the backend for each invocation",
         statistics.median(cost.requests for cost in costs["guard"]), "at most", 0.3),
    )


def clients(report: Report) -> None:
    """From 1 client to 256."""
    grow(report, "clients", {
        f"{count} client{'s' * (count > 1)}": (count, f"work={WORK}") for count in (1, 4, 16, 64, 256)
    })


def spans(report: Report) -> None:
    """From 1 span in an invocation to 1,000, asked for by 4 clients."""
    grow(report, "spans", {f"{count} span{'s' * (count > 1)}": (4, f"spans={count}") for count in (1, 10, 100, 1000)})


def payloads(report: Report) -> None:
    """From 1 KB in an invocation to 1 MB, asked for by 4 clients."""
    grow(report, "payload", {f"{size} KB": (4, f"bytes={size * 1000}") for size in (1, 10, 100, 1000)})


def grow(report: Report, what: str, sizes: Mapping[str, tuple[int, str]], rounds: int = 1, seconds: float = 2) -> None:
    ways = ("no", "sdk", "flush", "guard")
    rows = {}
    with services(ways) as running:
        for size, (count, query) in sizes.items():
            costs = in_turns(running, count, seconds, query, rounds)
            rows |= {f"{size}, {LABELS[way]}": row(found) for way, found in costs.items()}
    report.table(f"gunicorn, more {what}", COLUMNS, rows)


def in_turns(
    running: Mapping[str, Service], clients: int, seconds: float, query: str, rounds: int
) -> dict[str, list[Cost]]:
    costs: dict[str, list[Cost]] = {way: [] for way in running}
    for _ in range(rounds):
        for way, service in running.items():
            costs[way].append(service.load(clients, seconds, query))
    return costs


def row(costs: Sequence[Cost]) -> tuple[object, ...]:
    """The cells of a table: medians, but for the closed traces."""
    middle = Cost(*map(statistics.median, zip(*costs, strict=True)))
    closed, asked = sum(cost.closed for cost in costs), sum(cost.asked for cost in costs)
    return (
        f"{middle.rate:.0f}", middle.p50, middle.p99, f"{middle.thread_us:.0f}", f"{middle.process_us:.0f}",
        middle.switches, f"{middle.requests:.2f}", f"{closed} of {asked}" if closed else "",
    )


def ratio(costs: Mapping[str, Sequence[Cost]], field: str) -> float:
    """trace-guard over the SDK's spans; of each round, then the median."""
    pairs = zip(costs["guard"], costs["sdk"], strict=True)
    return statistics.median(getattr(guard, field) / getattr(sdk, field) for guard, sdk in pairs)
