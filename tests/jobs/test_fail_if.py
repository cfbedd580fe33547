"""A job that raises nothing is an error if too many of its steps have failed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from trace_guard import Guard, SettingsError, guard_job, process, step
from trace_guard.backends.summaries import summarize
from trace_guard.testing import BraintrustServer


def half(item: int) -> float:
    return 1 / item


def many(counts: Mapping[str, int]) -> bool:
    assert counts == {"done": 8, "failed": 2, "skipped": 1}
    return counts["failed"] >= 2


@pytest.mark.parametrize(
    ("fail_if", "outcome"), [(None, "ok"), (0, "error"), (0.1, "error"), (0.2, "ok"), (0.5, "ok"), (many, "error")]
)
def test_steps_can_make_a_job_an_error(
    make_guard: Callable[..., Guard], server: BraintrustServer, fail_if: Any, outcome: str
) -> None:
    """More failed steps than the share, or a function that says so, make the root an error. The result is the same."""
    guard = make_guard()

    @guard_job(guard=guard, name="nightly", fail_if=fail_if)
    def main() -> str:
        process([1] * 8 + [0] * 2, half, workers=2).run()
        with step("skipped") as skipped:
            skipped.skip()
        return "done"

    assert main() == "done"
    assert guard.flush(10)
    (trace,) = summarize(server.span_rows())
    assert (trace.outcome, trace.error) == (outcome, "2 of 11 steps failed" if outcome == "error" else None)
    assert (trace.parts, trace.failed_parts) == (11, 2)


def test_a_fault_of_fail_if_does_not_change_the_job(
    make_guard: Callable[..., Guard], server: BraintrustServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function that raises is reported, and the job ends as it would have."""
    guard, said = make_guard(), []

    def raises(counts: Mapping[str, int]) -> bool:
        raise KeyError("typo")

    monkeypatch.setattr("trace_guard.contain.report", lambda step, fault: said.append((step, type(fault))))
    with guard.job("nightly", fail_if=raises), step("load"):
        pass
    assert guard.flush(10)
    assert said == [("call fail_if", KeyError)]
    (trace,) = summarize(server.span_rows())
    assert (trace.outcome, trace.in_progress) == ("ok", False)


@pytest.mark.parametrize("fail_if", ["any", 1, -0.1, 20, True, float("nan")])
def test_a_bad_share_is_refused(fail_if: Any) -> None:
    """What is neither a share below 1 nor a function is refused at import."""
    with pytest.raises(SettingsError, match=r"^fail_if="):
        guard_job(fail_if=fail_if)(half)
