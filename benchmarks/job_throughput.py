"""What a long job costs: spans a second beside the SDK alone, how its memory and its journal grow, and what is there in
the end if the backend was down for the first half.

Each way is a process of its own. Rates are taken in turns from short jobs, memory and disk from long ones.
"""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from backend import Arrived, Backend
from report import Report

__all__ = ["job_throughput"]

SHORT, LONG = 20_000, 100_000
ROUNDS = 2
WARM_UP = 0.1
"""The share of the spans after which memory is taken to have its size."""
PROJECT_ID = "11111111-2222-3333-4444-555555555555"
LABELS = {
    "sdk": "SDK alone",
    "spans": "trace-guard, spans of the SDK",
    "steps": "trace-guard, job.step()",
    "threads": "trace-guard, job.process(), 8 workers",
    "outage": "trace-guard, job.step(), first half down",
}


def job_throughput(report: Report) -> None:
    """Jobs whose spans have an input of 200 characters each, delivered as they go."""
    turns = [{way: measured(way, SHORT) for way in ("sdk", "spans", "steps")} for _ in range(ROUNDS)]
    long = {way: measured(way, LONG) for way in ("spans", "steps", "outage")}
    rows = {
        **{f"{LABELS[way]}, {SHORT:,} spans": row(found) for way, found in turns[-1].items()},
        f"{LABELS['threads']}, {SHORT:,} spans": row(measured("threads", SHORT)),
        **{f"{LABELS[way]}, {LONG:,} spans": row(found) for way, found in long.items()},
    }
    report.table(
        "a job, delivered while it runs",
        ("spans/s", "delivered/s", "warm MB", "grown by MB", "journal MB", "closed spans", "open", "delivery"), rows,
    )
    for way, name in (("spans", "spans of the SDK"), ("steps", "step()")):
        share = statistics.median(turn[way]["rate"] / turn["sdk"]["rate"] for turn in turns)
        report.targets(
            (f"job, {name}: spans/s, share of the SDK's", share, "at least", 1.0),
            (f"job, {name}: RSS growth over {LONG:,} spans, MB", long[way]["grown"], "at most", 30),
        )


def row(found: Mapping[str, Any]) -> tuple[object, ...]:
    arrived: Arrived = found["arrived"]
    return (
        f"{found['rate']:.0f}", f"{found['count'] / found['delivered']:.0f}", f"{found['warm']:.0f}",
        f"{found['grown']:.0f}", f"{found['disk']:.0f}", arrived.ended_spans, arrived.open_spans, found["verdict"],
    )


def measured(way: str, count: int) -> dict[str, Any]:
    """Seconds until the last span has ended and until all is delivered, megabytes resident: after the warm-up, and the
    most from then on; and megabytes of the journal, at most. An outage is over when half of the spans are through."""
    with Backend() as backend, tempfile.TemporaryDirectory() as directory:
        environment = {
            **os.environ, **backend.environment, "TRACE_GUARD_DIR": directory, "TRACE_GUARD_PROJECT_ID": PROJECT_ID
        }
        if way == "outage":
            backend.fail(True)
        command = [sys.executable, __file__, way, str(count)]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as job:
            assert job.stdout is not None
            assert job.stdout.readline() == "half\n"
            if way == "outage":
                backend.fail(False)
            found: dict[str, Any] = json.loads(job.stdout.readline())
        assert job.returncode == 0, job.returncode
        rate, grown = count / found["busy"], found["peak"] - found["warm"]
        return {**found, "count": count, "rate": rate, "grown": grown, "arrived": backend.arrived()}


def child(way: str, spans: int) -> None:
    """The job itself, which tells what it has cost."""
    import time

    import braintrust

    text: str = "x" * 200
    found: dict[str, Any] = {"warm": 0.0, "peak": 0.0, "disk": 0.0, "verdict": "-"}

    def numbers() -> Iterator[int]:
        for number in range(spans):
            if number % max(1, spans // 100) == 0:
                now = resident()
                found["peak"], found["disk"] = max(found["peak"], now), max(found["disk"], on_disk())
                if number == spans // 2:
                    print("half", flush=True)
                if number < spans * WARM_UP:
                    found["warm"] = max(found["warm"], now)
            yield number

    with root(way) as job:
        began = time.monotonic()
        if way == "threads":
            job.process(({"number": number, "text": text} for number in numbers()), len, workers=8).run()
        for number in numbers() if way != "threads" else ():
            begin = job.step if way in ("steps", "outage") else braintrust.start_span
            with begin("span", input={"number": number, "text": text}):
                pass
        found["busy"] = time.monotonic() - began
    if way == "sdk":
        braintrust.flush()
    else:
        found["verdict"] = job.invocation.delivery.verdict.value
    found["delivered"] = time.monotonic() - began
    print(json.dumps(found))


@contextmanager
def root(way: str) -> Iterator[Any]:
    """What all spans are below."""
    import braintrust

    if way == "sdk":
        braintrust.init_logger(project="bench", project_id=PROJECT_ID)
        with braintrust.start_span("root") as span:
            yield span
    else:
        from trace_guard import default_guard

        with default_guard().job("root", progress=False) as job:
            yield job


def on_disk() -> float:
    """Megabytes of the journal."""
    total = 0
    for path in Path(os.environ["TRACE_GUARD_DIR"]).rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # it is delivered
            total += path.stat().st_size
    return total / 1e6


def resident() -> float:
    """Megabytes of this process in memory. Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    child(sys.argv[1], int(sys.argv[2]))
