"""Prints what guarding costs: ``make bench``.

Everything is measured in this one run, on this machine; nothing is stored.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from azure_latency import azure_latency
from job_throughput import job_throughput
from page_speed import page_speed
from ray_throughput import ray_throughput
from reap_scale import reap_scale

from trace_guard.testing import BraintrustServer, CloudRunSandbox, LambdaSandbox

HERE = Path(__file__).parent
ROUND_TRIP = 0.050
WARM = 100
IMPORTS = 60
CLIENTS = 64
REQUESTS = 2000
SPANS_OF_A_JOB = 100_000


def main() -> None:
    version = sys.version.split()[0]
    print(f"Python {version}, {os.cpu_count()} cores, backend at {ROUND_TRIP * 1000:.0f} ms round trip\n")
    lambda_latency()
    service_latency()
    azure_latency(ROUND_TRIP)
    job_throughput(SPANS_OF_A_JOB)
    ray_throughput(ROUND_TRIP)
    reap_scale()
    page_speed()
    overhead()
    imports()


def lambda_latency() -> None:
    """Invocations of the real runtime in the sandbox, which freezes it, beside the SDK's own flush."""
    print(f"Lambda, {WARM} warm invocations each: what the caller waits for and what is billed, ms")
    columns = f"{'init':>8}{'first':>8}{'p50':>8}{'p95':>8}{'billed p50':>12}{'delivered before freeze':>25}"
    print(f"{'':36}{columns}{'requests':>10}")
    for name, label, variables in (
        ("unguarded", "no tracing", {}),
        ("sdk_flush", "SDK, finally: flush()", {}),
        ("guarded", "trace-guard", {}),
        ("guarded", "trace-guard, before the response", {"TRACE_GUARD_FLUSH": "before-response"}),
    ):
        with BraintrustServer(latency=ROUND_TRIP) as server:
            environment = {
                "BRAINTRUST_API_KEY": "bench", "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url,
                **variables,
            }
            with LambdaSandbox("app.handler", code=HERE / "functions" / name, env=environment, timeout=10) as sandbox:
                cold = sandbox.invoke({"question": "?"})
                before, traces = len(server.requests), count_closed(server)
                warm, in_time = [], 0
                for _ in range(WARM):
                    warm.append(sandbox.invoke({"question": "?"}))
                    in_time += count_closed(server) == traces + len(warm)
                requests = (len(server.requests) - before) / WARM
            seconds = [each.seconds for each in warm]
            print(
                f"{label:36}{cold.init_seconds * 1000:8.0f}{cold.seconds * 1000:8.1f}{median(seconds):8.1f}"
                f"{percentile(seconds, 95):8.1f}{median([each.billed_seconds for each in warm]):12.1f}"
                f"{f'{in_time}/{WARM}' if traces else '-':>25}{requests:10.2f}"
            )
    print()


def service_latency() -> None:
    """Many clients of a service on gunicorn's threads, which has no CPU while no request is in flight."""
    print(f"Cloud Run, {REQUESTS} requests of 20 ms by {CLIENTS} clients: what they wait for, ms")
    print(f"{'':36}{'p50':>8}{'p99':>8}{'requests/s':>12}{'closed traces':>15}{'backend requests':>18}")
    command = ["gunicorn", "--bind", ":$PORT", "--workers", "1", "--threads", "80", "--timeout", "0", "app:app"]
    for name, label in (
        ("service_unguarded", "no tracing"),
        ("service_sdk_flush", "SDK, finally: flush()"),
        ("service_guarded", "trace-guard"),
    ):
        with BraintrustServer(latency=ROUND_TRIP) as server:
            environment = {
                "BRAINTRUST_API_KEY": "bench", "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url,
                "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            }
            sandbox = CloudRunSandbox(command, code=HERE / "functions" / name, env=environment)
            with sandbox, ThreadPoolExecutor(CLIENTS) as clients:
                sandbox.request("GET", "/")
                before, began = len(server.requests), time.monotonic()
                responses = list(clients.map(sandbox.request, ["GET"] * REQUESTS, ["/"] * REQUESTS))
                seconds = [response.last_byte_seconds for response in responses]
                lasted = time.monotonic() - began
                traces, requests = count_closed(server), len(server.requests) - before
            print(
                f"{label:36}{median(seconds):8.1f}{percentile(seconds, 99):8.1f}{REQUESTS / lasted:12.0f}"
                f"{traces or '-':>15}{requests:18}"
            )
    print()


def count_closed(server: BraintrustServer) -> int:
    """How many traces are there, all of whose spans have ended."""
    still_open = {row["root_span_id"] for row in server.open_spans()}
    return len({row["root_span_id"] for row in server.span_rows()} - still_open)


def overhead() -> None:
    """What an invocation costs in this process beyond a span of the SDK, with delivery in the background."""
    import braintrust

    from trace_guard import FlushPolicy, Guard
    from trace_guard.backends.memory import MemoryBackend

    with tempfile.TemporaryDirectory() as directory:
        guard = Guard(project="bench", backend=MemoryBackend(), dir=directory, flush=FlushPolicy.AFTER_RESPONSE)
        guard.start()
        logger = braintrust.init_logger(project="bench", set_current=False)

        def span_alone() -> None:
            with logger.start_span(name="no-op"):
                pass

        def guarded() -> None:
            with guard.invocation("no-op"):
                pass

        alone, both = timed(span_alone), timed(guarded)
        guard.close()
    print("A no-op in process, without delivery, ms")
    print(f"{'':24}{'p50':>9}{'p95':>9}")
    print(f"{'span of the SDK':24}{median(alone):9.3f}{percentile(alone, 95):9.3f}")
    print(f"{'guarded invocation':24}{median(both):9.3f}{percentile(both, 95):9.3f}")
    print(f"{'added by the guard':24}{median(both) - median(alone):9.3f}\n")


def imports() -> None:
    """What is added to a cold start, in fresh processes, in turns, so that the machine's mood hits all alike."""
    statements = {
        "braintrust": "import braintrust",
        "and trace_guard_lambda": "import braintrust, trace_guard_lambda",
        "and a handler is guarded": "import braintrust, trace_guard_lambda as g; g.guard_handler(lambda e, c: e)",
    }
    times: dict[str, list[float]] = {label: [] for label in statements}
    for _ in range(IMPORTS):
        for label, statement in statements.items():
            times[label].append(import_time(statement))
    print(f"Init, best and median of {IMPORTS}, ms")
    for label, values in times.items():
        print(f"{label:24}{min(values) * 1000:9.1f}{median(values):9.1f}")
    first, last = (times[label] for label in (next(iter(statements)), list(statements)[-1]))
    print(f"{'added by the guard':24}{(min(last) - min(first)) * 1000:9.1f}{median(last) - median(first):9.1f}")


def import_time(statement: str) -> float:
    code = f"import os, time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t, flush=True)"
    with tempfile.TemporaryDirectory() as directory:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"} | {
            # As on Lambda, where the project is given by id.
            "TRACE_GUARD_DIR": directory, "TRACE_GUARD_PROJECT_ID": str(uuid.UUID(int=1)),
            "BRAINTRUST_API_KEY": "bench",
            "BRAINTRUST_APP_URL": "http://127.0.0.1:9", "BRAINTRUST_API_URL": "http://127.0.0.1:9",
        }
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


def timed(call: Callable[[], None], times: int = 500) -> list[float]:
    """Seconds of each call, after a warm-up."""
    for _ in range(50):
        call()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return taken


def median(seconds: Sequence[float]) -> float:
    return statistics.median(seconds) * 1000


def percentile(seconds: Sequence[float], percent: int) -> float:
    return statistics.quantiles(seconds, n=100)[percent - 1] * 1000


if __name__ == "__main__":
    main()
