"""What guarding costs Ray tasks, and what becomes of the spans when workers are killed.

``python benchmarks/ray_throughput.py``, or as a part of ``make bench``. Plain and guarded tasks take turns on the same
workers; each run is timed from the first submission to the last result.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

__all__ = ["ray_throughput"]

WORKERS = 4
# How many tasks, and how many milliseconds each takes: nothing at all, and as long as a quick call of a model.
RUNS = ((2_000, 0), (400, 100))
MANY = 10_000
DEATHS = {MANY // 3: "exit", 2 * MANY // 3: "kill"}
PROJECT_ID = "11111111-2222-3333-4444-555555555555"


def ray_throughput(round_trip: float) -> None:
    """One driver and its workers, which deliver to a stand-in for Braintrust in this process.

    Args:
        round_trip: seconds that the backend takes for each answer.
    """
    print(f"Ray, {WORKERS} workers, tasks a second")
    if importlib.util.find_spec("ray") is None:
        print("(left out: pip install 'ray>=2.40')\n")
        return
    print(f"{'':40}{'no tracing':>12}{'trace-guard':>13}{'closed spans':>14}{'open':>6}")
    with BraintrustServer(latency=round_trip) as server, tempfile.TemporaryDirectory() as directory:
        server.add_project("project", PROJECT_ID)
        for label, plain, guarded, name in measured(server, Path(directory)):
            rows = trace(server, name)
            still_open = sum("end" not in row["metrics"] for row in rows)
            print(f"{label:40}{plain or '-':>12}{guarded:>13}{len(rows) - still_open:14}{still_open:6}")
        tasks = [row for row in rows if row["span_parents"]]
        requests = len([one for one in server.requests if one.path == "/logs3"])
    ended = Counter((row["metadata"]["ray.attempt"], row["metadata"]["trace_guard"]["outcome"]) for row in tasks)
    told = ", ".join(f"{count} {outcome} at attempt {attempt}" for (attempt, outcome), count in sorted(ended.items()))
    print(f"    the last in one trace: {told}; {requests} requests for all\n")


def measured(server: BraintrustServer, directory: Path) -> list[tuple[str, str, str, str]]:
    """What was run, the rates without and with the guard, and the name of the root; all is delivered."""
    environment = {
        **os.environ, "BRAINTRUST_API_KEY": "bench", "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url,
        "TRACE_GUARD_DIR": str(directory), "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    }
    subprocess.run(
        [sys.executable, __file__, "--driver", str(directory / "rates.json")], env=environment, check=True,
        stdout=subprocess.DEVNULL,  # where Ray writes too
    )
    rates = json.loads((directory / "rates.json").read_text())
    shown = {name: f"{rate:.0f}" for name, rate in rates.items()}
    found = [
        (f"{tasks} tasks of {milliseconds} ms", shown[f"plain {tasks}"], shown[str(tasks)], str(tasks))
        for tasks, milliseconds in RUNS
    ]
    return [*found, (f"{MANY} tasks of 0 ms, two workers killed", "", shown[str(MANY)], str(MANY))]


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
    plain, guarded, found = ray.remote(work), ray.remote(guard_task(work)), {}
    with default_guard().invocation("warm-up"):
        for task in (plain, guarded):
            ray.get([task.remote(number, 20) for number in range(WORKERS * 4)])
    for tasks, milliseconds in RUNS:
        found[f"plain {tasks}"] = rate(plain, tasks, milliseconds, {})
        with default_guard().invocation(str(tasks)):
            found[str(tasks)] = rate(guarded, tasks, milliseconds, {})
    with default_guard().invocation(str(MANY)):
        found[str(MANY)] = rate(guarded, MANY, 0, DEATHS)
    told.write_text(json.dumps(found))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--driver"]:
        drive(Path(sys.argv[2]))
    else:
        ray_throughput(0.050)
