"""How fast the local page is with many traces, and beside a process that writes."""

from __future__ import annotations

import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from report import Report

from trace_guard.backends.local import LocalStore
from trace_guard.deadline import Deadline

VISITS = 7
RATE = 1000
WRITE_SECONDS = 10

WRITER = f"""
    import sys, time
    from trace_guard import Guard
    guard = Guard(project="bench", backend="local")
    done, began = 0, time.monotonic()
    with guard.job("writer") as job:
        while time.monotonic() - began < {WRITE_SECONDS}:
            with job.step("step", input={{"number": done}}) as step:
                step.set_output("y" * 100)
            done += 1
            time.sleep(max(0.0, began + done / {RATE} - time.monotonic()))
        took = time.monotonic() - began
    print(done / took, "delivered" if guard.flush(30) else "not-delivered")
"""


def page_speed(report: Report) -> None:
    """100,000 spans in 5,000 traces, and one trace with 5,000 spans; then a writer of 1,000 spans a second."""
    if shutil.which("chromium") is None:
        report.note("The page: left out, no Chromium on this machine (make browser)")
        return
    from playwright.sync_api import sync_playwright

    paths = {
        "list": "/", "list, filtered by error": "/?state=error", "list, searched in payloads": "/?q=needle",
        "trace of 5,000 spans": "/trace?root=large",
    }
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        directory = Path(name)
        fill(directory)
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        with served(directory) as (address, process):
            page = browser.new_page()
            times = {label: drawn(page, f"{address}{path}") for label, path in paths.items()}
            small = rss(process)
            for path in [*paths.values()] * 3:
                drawn(page, f"{address}{path}")
            large = rss(process)
            alone = written(directory)
            page.goto(address)  # it follows the writer by server-sent events
            with subprocess.Popen(**writer(directory)) as running:
                time.sleep(2)
                times["list, beside a process that writes"] = drawn(browser.new_page(), f"{address}/")
                said, _ = running.communicate()
            beside, verdict = said.split()
        browser.close()
    report.table(
        f"the page, 100,000 spans in 5,000 traces; {VISITS} visits each", ("p50 ms until it is drawn", "best ms"),
        {label: (f"{middle:.0f}", f"{best:.0f}") for label, (middle, best) in times.items()},
    )
    report.note(
        f"A process that writes to the same store: {alone:.0f} spans/s without the page, {float(beside):.0f} with it, "
        f"all {verdict.replace('-', ' ')}. The server has {small:.0f} MB after the first visits, {large:.0f} MB after "
        f"{4 * 4 * VISITS}."
    )
    report.targets(
        ("page: list, ms", times["list"][0], "at most", 200),
        ("page: trace of 5,000 spans, ms", times["trace of 5,000 spans"][0], "at most", 1000),
        ("page: growth of the server's RSS, MB", large - small, "at most", 20),
    )


def fill(directory: Path) -> None:
    store = LocalStore(directory / "traces.db")
    now = time.time()
    batch: list[bytes] = []
    for trace in range(5000):
        batch += rows(f"{trace:032x}", 20, now - 7 * trace, is_open=trace % 50 == 0, failed=trace % 11 == 0)
        if len(batch) >= 2000:
            store.send(batch, Deadline.after(60))
            batch = []
    store.send([*batch, *rows("large", 5000, now - 100_000, is_open=False, failed=False)], Deadline.after(60))
    store.close()


def rows(root: str, count: int, start: float, *, is_open: bool, failed: bool) -> Iterator[bytes]:
    for number in range(count):
        metrics = {"start": start + number * 0.01, "end": start + 60 - number * 0.002}
        if is_open and number in (0, count - 1):
            del metrics["end"]
        yield json.dumps({
            "id": f"{root}-{number}", "span_id": f"{root}-{number}", "root_span_id": root, "project_id": "bench",
            "span_parents": [f"{root}-{(number - 1) // 3}"] if number else None, "log_id": "g", "metrics": metrics,
            "span_attributes": {"name": f"step {number}" if number else "ask", "type": "task"},
            "input": {"question": "why is this so? " * 20}, "output": "because " * 30,
            **({"error": "ValueError: no"} if failed and not number else {}),
        }).encode()


@contextmanager
def served(directory: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "trace_guard", "ui", "--dir", str(directory), "--port", "0", "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        try:
            yield found.group(0), process
        finally:
            process.terminate()


def drawn(page: Any, address: str) -> tuple[float, float]:
    """Milliseconds from the request until the page is loaded and laid out: the median of some visits, and the best."""
    times = []
    for _ in range(VISITS):
        page.goto(address)
        times.append(page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd"))
    return statistics.median(times), min(times)


def rss(process: subprocess.Popen[str]) -> float:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    assert found is not None
    return int(found.group(1)) / 1000


def writer(directory: Path) -> dict[str, Any]:
    return {
        "args": [sys.executable, "-c", textwrap.dedent(WRITER)], "stdout": subprocess.PIPE, "text": True,
        "env": {**os.environ, "TRACE_GUARD_DIR": str(directory)},
    }


def written(directory: Path) -> float:
    """Spans per second of the writer."""
    with subprocess.Popen(**writer(directory)) as process:
        said, _ = process.communicate()
    return float(said.split()[0])


if __name__ == "__main__":
    page_speed()
