"""Invocations of AWS's own runtime in the sandbox, which freezes it, beside the SDK's own flush."""

from __future__ import annotations

from pathlib import Path

from backend import ROUND_TRIP, Backend
from report import Report, milliseconds, percentile

from trace_guard.testing import LambdaSandbox

__all__ = ["lambda_latency"]

HERE = Path(__file__).parent
WARM = 100
WAYS = {
    "no tracing": ("unguarded", {}),
    "SDK, finally: flush()": ("sdk_flush", {}),
    "trace-guard": ("guarded", {}),
    "trace-guard, before the response": ("guarded", {"TRACE_GUARD_FLUSH": "before-response"}),
}


def lambda_latency(report: Report) -> None:
    """What the caller waits for and what is billed."""
    rows, p50, billed = {}, {}, {}
    for label, (name, variables) in WAYS.items():
        with Backend() as backend:
            environment = {**backend.environment, **variables}
            with LambdaSandbox("app.handler", code=HERE / "functions" / name, env=environment, timeout=10) as sandbox:
                cold = sandbox.invoke({"question": "?"})
                before = backend.arrived()
                warm, in_time = [], 0
                for _ in range(WARM):
                    warm.append(sandbox.invoke({"question": "?"}))
                    in_time += backend.arrived().closed == before.closed + len(warm)
                arrived = backend.arrived().since(before)
        seconds = [each.seconds for each in warm]
        p50[label], billed[label] = milliseconds(seconds), milliseconds([each.billed_seconds for each in warm])
        rows[label] = (
            f"{cold.init_seconds * 1000:.0f}", cold.seconds * 1000, f"{p50[label]:.2f}", percentile(seconds, 95),
            billed[label], f"{in_time} of {WARM}" if before.closed else "", f"{arrived.requests / WARM:.2f}",
        )
    report.table(
        f"Lambda, {WARM} warm invocations",
        ("init ms", "first ms", "p50 ms", "p95 ms", "billed p50 ms", "delivered before the freeze", "backend requests"),
        rows,
    )
    report.targets(
        ("Lambda, after the response: added at p50, ms", p50["trace-guard"] - p50["no tracing"], "at most", 1.0),
        ("Lambda, after the response: billed at p50, ms", billed["trace-guard"], "at most", ROUND_TRIP * 1000 + 5),
    )
