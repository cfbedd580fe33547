"""What guarding a function of Azure costs: invocations through Microsoft's own runtime, in a worker process."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path

from trace_guard.testing import BraintrustServer

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))
from azure_host import triggers  # noqa: E402 - the runtime's host is the tests' own
from azure_host.host import FunctionsHost  # noqa: E402
from azure_host.installation import MISSING, azure_python  # noqa: E402

__all__ = ["azure_latency"]

WARM = 200
WAYS = (
    ("no", "no tracing", {}),
    ("by the SDK", "SDK, finally: flush()", {}),
    ("by trace-guard", "trace-guard", {}),
    ("by trace-guard", "trace-guard, after the response", {"TRACE_GUARD_FLUSH": "after-response"}),
)


def azure_latency(round_trip: float) -> None:
    """Invocations one after another, beside the SDK's own flush.

    Args:
        round_trip: seconds that the backend takes for each answer.
    """
    print(f"Azure Functions, {WARM} warm invocations each: what the host waits for, ms")
    if azure_python() is None:
        print(f"(left out: {MISSING})\n")
        return
    columns = f"{'first':>8}{'p50':>8}{'p95':>8}{'added p50':>11}{'delivered before the answer':>29}{'requests':>10}"
    print(f"{'':36}{columns}")
    plain = 0.0
    for traced, label, variables in WAYS:
        with BraintrustServer(latency=round_trip) as server, tempfile.TemporaryDirectory() as directory:
            environment = {
                "TRACED": traced, "TRACE_GUARD_DIR": directory, "BRAINTRUST_API_KEY": "bench",
                "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url, **variables,
            }
            with FunctionsHost(HERE / "functions" / "azure", environment) as host:
                first = timed(host)
                before, traces = len(server.requests), closed(server)
                warm, in_time = [], 0
                for _ in range(WARM):
                    warm.append(timed(host))
                    in_time += closed(server) == traces + len(warm)
                requests = (len(server.requests) - before) / WARM
        median = statistics.median(warm)
        plain = plain or median
        print(
            f"{label:36}{first * 1000:8.1f}{median * 1000:8.1f}{statistics.quantiles(warm, n=100)[94] * 1000:8.1f}"
            f"{(median - plain) * 1000:11.1f}{'-' if traced == 'no' else f'{in_time}/{WARM}':>29}{requests:10.2f}"
        )
    print()


def timed(host: FunctionsHost) -> float:
    """Seconds of one invocation."""
    began = time.perf_counter()
    assert host.invoke("ask", triggers.http("POST", body={"question": "?"})).ok
    return time.perf_counter() - began


def closed(server: BraintrustServer) -> int:
    """How many traces are there, all of whose spans have ended."""
    still_open = {row["root_span_id"] for row in server.open_spans()}
    return len({row["root_span_id"] for row in server.span_rows()} - still_open)


if __name__ == "__main__":
    azure_latency(0.050)
