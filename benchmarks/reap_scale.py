"""What ``trace-guard reap`` costs as a project grows: time, requests, and peak memory.

The reaper is a process of its own, which says how much memory it had at most. What the kernel says of an ended process
counts the memory of the one that it was forked from.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from report import Report

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer
from trace_guard.testing.row_store import RowStore

__all__ = ["reap_scale"]

SIZES = (10_000, 100_000, 1_000_000)
SPANS_OF_A_TRACE = 10
# One in ten traces has one open span: 10,000 of a million spans are open.
OPEN_TRACES = 10
DAYS = 29
_BATCH = 20_000
_REAP = """
import re, runpy, sys
peak = sys.argv.pop(1)
try:
    runpy.run_module("trace_guard", run_name="__main__", alter_sys=True)
finally:
    with open("/proc/self/status") as status, open(peak, "w") as file:
        file.write(re.search(r"VmHWM:\\s+(\\d+)", status.read())[1])
"""


def reap_scale(report: Report, sizes: Sequence[int] = SIZES) -> None:
    """Each project is searched and then closed, by one process each."""
    table, peaks = {}, []
    for size in sizes:
        with tempfile.TemporaryDirectory() as directory:
            store = RowStore(Path(directory) / "rows.db")
            with BraintrustServer(store=store) as server:
                server.add_project("bench", "bench")
                fill(store, size)
                still_open = count_open(store)
                searched, first, found = run(server)
                closed, second, _ = run(server, "--close")
                peaks.append(max(searched[1], closed[1]) / 1e6)
                left = count_open(store)
        assert f"{still_open} stuck traces" in found.replace("trace,", "traces,"), found
        table[f"{size:,} spans"] = (still_open, searched[0], first, closed[0], second, f"{peaks[-1]:.0f}", left)
    report.table(
        f"trace-guard reap, traces of {SPANS_OF_A_TRACE} spans over {DAYS} days",
        ("open", "search s", "requests", "close s", "requests ", "peak RSS MB", "open afterwards"), table,
    )
    growth = max(peaks) - min(peaks)
    report.targets((f"reap: growth of the peak RSS up to {sizes[-1]:,} spans, MB", growth, "at most", 50))


def run(server: BraintrustServer, *options: str) -> tuple[tuple[float, float], int, str]:
    """Seconds and peak bytes of the process, the requests that it sent, and what it printed."""
    before, began = len(server.requests), time.monotonic()
    env = {
        **os.environ, "BRAINTRUST_API_KEY": "bench", "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
    }
    with tempfile.NamedTemporaryFile("r") as peak:
        command = [sys.executable, "-c", _REAP, peak.name, "reap", "--project", "bench", *options]
        printed = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
        seconds, kilobytes = time.monotonic() - began, int(peak.read())
    return (seconds, kilobytes * 1024), len(server.requests) - before, printed


def fill(store: RowStore, size: int) -> None:
    batch: list[Row] = []
    for row in rows(size):
        batch.append(row)
        if len(batch) == _BATCH:
            store.write(batch)
            batch = []
    store.write(batch)


def rows(size: int) -> Iterator[Row]:
    traces = size // SPANS_OF_A_TRACE
    first = time.time() - DAYS * 86400
    for trace in range(traces):
        start = first + trace * (DAYS - 1) * 86400 / traces
        created = datetime.datetime.fromtimestamp(start, datetime.timezone.utc).isoformat()
        for number in range(SPANS_OF_A_TRACE):
            is_open = number == 0 and trace % OPEN_TRACES == 0
            yield {
                "id": f"{trace}-{number}", "span_id": f"s{trace}-{number}", "root_span_id": f"r{trace}",
                "span_parents": [f"s{trace}-0"] if number else None, "project_id": "bench", "log_id": "g",
                "created": created, "metrics": {"start": start + number, **({} if is_open else {"end": start + 20})},
                "span_attributes": {"name": f"span {number}", "type": "task"}, "input": "a question " * 10,
                "output": None if is_open else "an answer " * 20,
                "context": {"caller_filename": "/srv/app.py", "caller_lineno": 42, "caller_functionname": "search"},
            }


def count_open(store: RowStore) -> int:
    text = "SELECT count(*) FROM spans WHERE json_extract(doc, '$.metrics.end') IS NULL"
    return int(store.read(lambda connection: connection.execute(text).fetchone()[0]))
