"""Prints what a long job costs: spans a second beside the SDK alone, how its memory and its journal grow, and what is
there in the end if the backend was down for the first half.

Each way in a process of its own, with a stand-in for Braintrust in this one. Run by hand, the number of spans may be
given: ``python benchmarks/job_throughput.py 20000``.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from trace_guard.testing import BraintrustServer, Fault

SPANS = 100_000
SHARE_OF_OTHERS = 5
"""Of a rate a fifth of the spans says as much: all of them only where memory and disk are looked at."""
WARM_UP = 0.1
"""The share of the spans after which memory is taken to have its size."""
PROJECT_ID = "11111111-2222-3333-4444-555555555555"
WAYS = {
    "sdk": "SDK alone",
    "spans": "trace-guard, spans of the SDK",
    "steps": "trace-guard, job.step()",
    "threads": "trace-guard, job.process(), 8 workers",
    "outage": "the same as job.step(), first half down",
}
LONG = ("steps", "outage")


def main() -> None:
    job_throughput(int(sys.argv[1]) if len(sys.argv) > 1 else SPANS)


def job_throughput(spans: int = SPANS) -> None:
    """One job of so many spans, each with an input of 200 characters, delivered as it goes."""
    print(f"A job of {spans} spans, delivered while it runs; MB of memory after the warm-up and from then on, of disk")
    columns = f"{'spans':>8}{'spans/s':>9}{'delivered/s':>13}{'warm':>6}{'grown by':>10}{'journal':>9}"
    print(f"{'':40}{columns}{'closed spans':>14}{'open':>6}{'delivery':>11}")
    for way, label in WAYS.items():
        count = spans if way in LONG else spans // SHARE_OF_OTHERS
        with BraintrustServer() as server, tempfile.TemporaryDirectory() as directory:
            server.add_project("bench", PROJECT_ID)
            found = measured(way, count, server, directory)
            still_open = len(server.open_spans())
            print(
                f"{label:40}{count:8}{count / found['busy']:9.0f}{count / found['delivered']:13.0f}{found['warm']:6.0f}"
                f"{found['peak'] - found['warm']:10.0f}{found['disk']:9.0f}{len(server.span_rows()) - still_open:14}"
                f"{still_open:6}{found['verdict']:>11}",
                flush=True,
            )
    print()


def measured(way: str, spans: int, server: BraintrustServer, directory: str) -> dict[str, Any]:
    """Seconds until the last span has ended and until all is delivered, megabytes resident: after the warm-up, and the
    most from then on; and megabytes of the journal, at most. An outage is over when half of the spans are through."""
    environment = {
        **os.environ, "TRACE_GUARD_DIR": directory, "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "BRAINTRUST_API_KEY": "bench",
        "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url,
    }
    command = [sys.executable, __file__, "--child", way, str(spans)]
    if way == "outage":
        server.fail("/logs3", Fault.status(503))
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as job:
        assert job.stdout is not None
        assert job.stdout.readline() == "half\n"
        server.heal()
        found: dict[str, Any] = json.loads(job.stdout.readline())
    assert job.returncode == 0, job.returncode
    return found


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
            begin = job.step if way in LONG else braintrust.start_span
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
    if sys.argv[1:2] == ["--child"]:
        child(sys.argv[2], int(sys.argv[3]))
    else:
        main()
