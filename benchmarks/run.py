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
from collections.abc import Callable, Sequence
from pathlib import Path

from trace_guard.testing import BraintrustServer, LambdaSandbox

HERE = Path(__file__).parent
ROUND_TRIP = 0.050
WARM = 60
IMPORTS = 15


def main() -> None:
    version = sys.version.split()[0]
    print(f"Python {version}, {os.cpu_count()} cores, backend at {ROUND_TRIP * 1000:.0f} ms round trip\n")
    lambda_latency()
    overhead()
    imports()


def lambda_latency() -> None:
    """Invocations of the real runtime in the sandbox, beside the SDK's own flush."""
    print(f"Lambda, {WARM} warm invocations each: what the caller waits for, ms")
    print(f"{'':24}{'first':>9}{'p50':>9}{'p95':>9}{'requests/invocation':>22}{'open spans':>12}")
    for name, label in (
        ("unguarded", "no tracing"),
        ("sdk_flush", "SDK, finally: flush()"),
        ("guarded", "trace-guard"),
    ):
        with BraintrustServer(latency=ROUND_TRIP) as server:
            environment = {
                "BRAINTRUST_API_KEY": "bench", "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url,
            }
            with LambdaSandbox("app.handler", code=HERE / "functions" / name, env=environment, timeout=10) as sandbox:
                first = sandbox.invoke({"question": "?"}).seconds
                before = len(server.requests)
                warm = [sandbox.invoke({"question": "?"}).seconds for _ in range(WARM)]
                requests = (len(server.requests) - before) / WARM
            print(
                f"{label:24}{first * 1000:9.1f}{median(warm):9.1f}{percentile(warm, 95):9.1f}{requests:22.2f}"
                f"{len(server.open_spans()):12}"
            )
    print()


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
    """Import time in fresh processes, in turns, so that the machine's mood hits all alike."""
    statements = {
        "braintrust": "import braintrust",
        "and trace_guard_lambda": "import braintrust, trace_guard, trace_guard_lambda",
    }
    times: dict[str, list[float]] = {label: [] for label in statements}
    for _ in range(IMPORTS):
        for label, statement in statements.items():
            times[label].append(import_time(statement))
    print(f"Import, best and median of {IMPORTS}, ms")
    for label, values in times.items():
        print(f"{label:24}{min(values) * 1000:9.1f}{median(values):9.1f}")
    best = [min(values) for values in times.values()]
    print(f"{'added by the guard':24}{(best[1] - best[0]) * 1000:9.1f}")


def import_time(statement: str) -> float:
    code = f"import time; t = time.perf_counter(); {statement}; print(time.perf_counter() - t)"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
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
