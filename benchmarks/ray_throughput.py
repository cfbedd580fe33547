"""What guarding costs Ray tasks, and what becomes of the spans when workers are killed.

Plain and guarded tasks take turns on the same
workers; each run is timed from the first submission to the last result.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from backend import ROUND_TRIP
from report import Report

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

__all__ = ["ray_throughput"]

WORKERS = 4
# How many tasks, and how many milliseconds each takes: nothing at all, and as long as a quick call of a model.
RUNS = ((2_000, 0), (200, 100))
TURNS = 3
MANY = 10_000
DEATHS = {MANY // 3: "exit", 2 * MANY // 3: "kill"}
PROJECT_ID = "11111111-2222-3333-4444-555555555555"


def ray_throughput(report: Report) -> None:
    """One driver and its workers, which deliver to a stand-in for Braintrust in this process."""
    if importlib.util.find_spec("ray") is None:
        report.note("Ray: left out, pip install 'ray>=2.40'")
        return
    with BraintrustServer(latency=ROUND_TRIP) as server, tempfile.TemporaryDirectory() as directory:
        server.add_project("project", PROJECT_ID)
        rates = measured(server, Path(directory))
        rows, share = {}, 0.0
        for tasks, milliseconds in (*RUNS, (MANY, 0)):
            spans = [span for name in rates["guarded"] if name.startswith(f"{tasks} ") for span in trace(server, name)]
            still_open = sum("end" not in span["metrics"] for span in spans)
            guarded = [rate for name, rate in rates["guarded"].items() if name.startswith(f"{tasks} ")]
            plain = rates["plain"].get(str(tasks))
            label = f"{tasks:,} tasks of {milliseconds} ms" + (", two workers killed" if tasks == MANY else "")
            rows[label] = (
                f"{statistics.median(plain):.0f}" if plain else "", f"{statistics.median(guarded):.0f}",
                len(spans) - still_open, still_open,
            )
            if plain and not milliseconds:
                pairs = zip(guarded, plain, strict=True)
                share = statistics.median(with_guard / alone for with_guard, alone in pairs)
        last = [span for span in spans if span["span_parents"]]
        requests = len([one for one in server.requests if one.path == "/logs3"])
    report.table(f"Ray, {WORKERS} workers", ("tasks/s, no tracing", "trace-guard", "closed spans", "open"), rows)
    ended = Counter((row["metadata"]["ray.attempt"], row["metadata"]["trace_guard"]["outcome"]) for row in last)
    told = ", ".join(f"{count} {outcome} at attempt {attempt}" for (attempt, outcome), count in sorted(ended.items()))
    report.note(f"Where two workers were killed: {told}. {requests} requests to the backend for all of Ray's tasks.")
    report.targets(("Ray, tasks that do nothing: tasks/s, share of those without tracing", share, "at least", 0.75))


def measured(server: BraintrustServer, directory: Path) -> dict[str, Any]:
    """The rates: without the guard by the number of tasks, with it by the name of the root. All is delivered."""
    environment = {
        **os.environ, "BRAINTRUST_API_KEY": "bench", "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url,
        "TRACE_GUARD_DIR": str(directory), "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    subprocess.run(
        [sys.executable, __file__, str(directory / "rates.json")], env=environment, check=True,
        stdout=subprocess.DEVNULL,  # where Ray writes too
    )
    rates: dict[str, Any] = json.loads((directory / "rates.json").read_text())
    return rates


def trace(server: BraintrustServer, name: str) -> list[Row]:
    """The spans of the trace whose root has this name."""
    rows = server.span_rows()
    (root,) = [row for row in rows if row["span_attributes"]["name"] == name]
    return [row for row in rows if row["root_span_id"] == root["root_span_id"]]


def drive(told: Path) -> None:
    """The driver, which tells of its rates in a file."""
    import ray

    from trace_guard import default_guard
    from trace_guard_ray import guard_task

    def work(number: int, milliseconds: int = 0, death: str = "", directory: str = "") -> int:
        if death and not os.path.exists(f"{directory}/{death}"):
            Path(f"{directory}/{death}").touch()
            os._exit(3) if death == "exit" else os.kill(os.getpid(), 9)
        if milliseconds:
            time.sleep(milliseconds / 1000)
        return number

    def rate(task: Any, tasks: int, milliseconds: int, deaths: dict[int, str]) -> float:
        directory, began = os.environ["TRACE_GUARD_DIR"], time.monotonic()
        references = [
            task.remote(number, milliseconds, deaths[number], directory) if number in deaths
            else task.remote(number, milliseconds) for number in range(tasks)
        ]
        assert ray.get(references) == list(range(tasks))
        return tasks / (time.monotonic() - began)

    ray.init("local", num_cpus=WORKERS, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    plain, guarded = ray.remote(work), ray.remote(guard_task(work))
    found: dict[str, Any] = {"plain": {}, "guarded": {}}
    with default_guard().invocation("warm-up"):
        for task in (plain, guarded):
            ray.get([task.remote(number, 20) for number in range(WORKERS * 4)])
    for turn in range(TURNS):
        for tasks, milliseconds in RUNS:
            found["plain"].setdefault(str(tasks), []).append(rate(plain, tasks, milliseconds, {}))
            with default_guard().invocation(f"{tasks} {turn}") as invocation:
                found["guarded"][invocation.name] = rate(guarded, tasks, milliseconds, {})
    with default_guard().invocation(f"{MANY} last") as invocation:
        found["guarded"][invocation.name] = rate(guarded, MANY, 0, DEATHS)
    told.write_text(json.dumps(found))


if __name__ == "__main__":
    drive(Path(sys.argv[1]))
