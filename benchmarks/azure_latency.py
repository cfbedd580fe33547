"""What guarding a function of Azure costs: invocations through Microsoft's own runtime, in a worker process."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from backend import Backend
from report import Report, milliseconds, percentile

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from azure_host import triggers  # noqa: E402 - the runtime's host is the tests' own
from azure_host.host import FunctionsHost  # noqa: E402
from azure_host.installation import MISSING, azure_python  # noqa: E402

__all__ = ["azure_latency"]

WARM = 100
WAYS = {
    "no tracing": ("no", {}),
    "SDK, finally: flush()": ("by the SDK", {}),
    "trace-guard": ("by trace-guard", {}),
    "trace-guard, after the response": ("by trace-guard", {"TRACE_GUARD_FLUSH": "after-response"}),
}


def azure_latency(report: Report) -> None:
    """What the host waits for, invocations one after another."""
    if azure_python() is None:
        report.note(f"Azure Functions: left out, {MISSING}")
        return
    rows = {}
    for label, (traced, variables) in WAYS.items():
        with Backend() as backend, tempfile.TemporaryDirectory() as directory:
            environment = {"TRACED": traced, "TRACE_GUARD_DIR": directory, **backend.environment, **variables}
            with FunctionsHost(HERE / "functions" / "azure", environment) as host:
                first = timed(host)
                if traced != "no":
                    backend.settled(lambda now: now.closed == 1)
                before = backend.arrived()
                warm, in_time = [], 0
                for _ in range(WARM):
                    warm.append(timed(host))
                    in_time += backend.arrived().closed == before.closed + len(warm)
                arrived = backend.arrived().since(before)
        rows[label] = (
            first * 1000, milliseconds(warm), percentile(warm, 95),
            f"{in_time} of {WARM}" if before.closed else "", f"{arrived.requests / WARM:.2f}",
        )
    report.table(
        f"Azure Functions, {WARM} warm invocations",
        ("first ms", "p50 ms", "p95 ms", "delivered before the answer", "backend requests"), rows,
    )


def timed(host: FunctionsHost) -> float:
    """Seconds of one invocation."""
    began = time.perf_counter()
    assert host.invoke("ask", triggers.http("POST", body={"question": "?"})).ok
    return time.perf_counter() - began
