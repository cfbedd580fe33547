"""What is added to a cold start, in fresh processes that take turns, so that the machine's mood hits all alike."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import uuid

from report import Report

__all__ = ["cold_start"]

PROCESSES = 60
STATEMENTS = {
    "import braintrust": "import braintrust",
    "and trace_guard_lambda": "import braintrust, trace_guard_lambda",
    "and a handler is guarded": "import braintrust, trace_guard_lambda as g; g.guard_handler(lambda e, c: e)",
}


def cold_start(report: Report) -> None:
    times: dict[str, list[float]] = {label: [] for label in STATEMENTS}
    for _ in range(PROCESSES):
        for label, statement in STATEMENTS.items():
            times[label].append(import_ms(statement))
    found = {label: (statistics.median(values), min(values)) for label, values in times.items()}
    plain, guarded = found["import braintrust"], found["and a handler is guarded"]
    added = tuple(with_guard - alone for with_guard, alone in zip(guarded, plain, strict=True))
    report.table(
        f"cold start, {PROCESSES} processes each", ("median ms", "best ms"),
        {**found, "added by trace-guard": added},
    )
    report.targets(
        ("cold start: added at the median, ms", added[0], "at most", 15),
        ("cold start: added at the best, ms", added[1], "at most", 15),
    )


def import_ms(statement: str) -> float:
    code = f"import os, time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t, flush=True)"
    with tempfile.TemporaryDirectory() as directory:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | {
            # As on Lambda, where the project is given by id.
            "TRACE_GUARD_DIR": directory, "TRACE_GUARD_PROJECT_ID": str(uuid.UUID(int=1)),
            "BRAINTRUST_API_KEY": "bench",
            "BRAINTRUST_APP_URL": "http://127.0.0.1:9", "BRAINTRUST_API_URL": "http://127.0.0.1:9",
        }
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout) * 1000
