"""Stopped and moved clocks, as in users' tests and on machines whose time is set."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import braintrust
import freezegun
import pytest
import time_machine
from support import A_WHILE, Program, environment, until

from trace_guard import Deadline, Guard, step
from trace_guard.outcome import Verdict
from trace_guard.testing import BraintrustServer, Fault

CLOCKS: dict[str, Callable[[], object]] = {
    "freezegun": lambda: freezegun.freeze_time("2020-01-01 12:00:00"),
    "time-machine": lambda: time_machine.travel("2020-01-01 12:00:00+00:00", tick=False),
}


@pytest.mark.usefixtures("freezable")
@pytest.mark.parametrize("clock", CLOCKS)
def test_a_stopped_clock_stops_no_wait(
    make_guard: Callable[..., Guard], server: BraintrustServer, clock: str
) -> None:
    """Under a stopped clock an invocation is delivered, has the time of day that the test has set, and a dead backend
    costs the flush timeout."""
    guard = make_guard(flush_timeout=0.3)
    with CLOCKS[clock]():  # type: ignore[attr-defined]
        with guard.invocation("first", deadline=Deadline.after(60)) as first:
            braintrust.start_span("left open")
        server.fail("/logs3", Fault.black_hole())
        with guard.invocation("second") as second:
            pass
        server.heal()
    verdicts = [each.delivery and each.delivery.verdict for each in (first, second)]
    assert verdicts == [Verdict.DELIVERED, Verdict.SPOOLED]
    (row,) = [row for row in server.span_rows() if row["span_attributes"]["name"] == "first"]
    assert 0 <= row["metrics"]["start"] - 1577880000.0 < A_WHILE


def test_the_package_may_be_imported_under_a_stopped_clock(server: BraintrustServer, directory: Path) -> None:
    """A test that imports the guarded module while the clock is stopped ends as well."""
    with Program("""
    import freezegun
    with freezegun.freeze_time("2020-01-01"):
        from trace_guard import Guard, guard_job
        with Guard().invocation("root") as invocation:
            pass
        say(invocation.delivery.verdict.name)
    """, environment(server, directory)) as program:
        program.expects("DELIVERED")
        program.ends_well()


@pytest.mark.usefixtures("freezable")
@pytest.mark.parametrize("jump", [-30.0, 3600.0])
def test_durations_come_from_the_monotonic_clock(
    make_guard: Callable[..., Guard], server: BraintrustServer, monkeypatch: pytest.MonkeyPatch, jump: float
) -> None:
    """If the machine's time is set during a job, the root, its steps and what is left open last as long as they did."""
    guard, real = make_guard(), time.time
    with guard.job("root"), step("step"):
        braintrust.start_span("left open")
        monkeypatch.setattr(time, "time", lambda: real() + jump)
    durations = {
        row["span_attributes"]["name"]: row["metrics"]["end"] - row["metrics"]["start"] for row in server.span_rows()
    }
    assert set(durations) == {"root", "step", "left open"}
    assert all(0 <= seconds < A_WHILE for seconds in durations.values()), durations


@pytest.mark.parametrize("raises", [False, True])
def test_a_time_limit_of_the_caller_gives_the_result(
    make_guard: Callable[..., Guard], server: BraintrustServer, raises: bool
) -> None:
    """Async code hands over its result or its error without a wait for a dead backend, and the rows arrive later."""
    guard = make_guard(flush_timeout=A_WHILE)
    server.fail("/logs3", Fault.black_hole())

    async def work() -> int:
        if raises:
            raise ValueError("no")
        return 5

    async def block() -> int:
        async with guard.invocation("block"):
            return await work()

    async def job() -> int:
        async with guard.job("job"):
            return await work()

    async def generator() -> AsyncIterator[int]:
        yield await work()

    async def items() -> int:
        [item] = [item async for item in guard.wrap(generator)()]
        return item

    async def main() -> None:
        for each in (guard.wrap(work), block, job, items):
            waited = []
            for _ in range(5):
                began = time.monotonic()
                with contextlib.suppress(ValueError):
                    assert await each() == 5
                waited.append(time.monotonic() - began)
            assert min(waited) < 0.3, each.__name__

    asyncio.run(main())
    server.heal()
    guard.flush(A_WHILE)
    until(lambda: len(server.span_rows()) == 20 and not server.open_spans(), what="all roots")


@pytest.mark.parametrize("platform", [
    {"AWS_LAMBDA_FUNCTION_NAME": "ask"}, {"K_SERVICE": "ask"}, {"FUNCTIONS_WORKER_RUNTIME": "python"},
    {"FOUNDRY_HOSTING_ENVIRONMENT": "x"},
    {"OTEL_RESOURCE_ATTRIBUTES": "cloud.resource_id=arn:aws:bedrock-agentcore:us-east-1:1:runtime/ask"},
], ids=lambda platform: next(iter(platform)))
def test_where_the_process_may_be_frozen_async_code_waits(
    make_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch, platform: dict[str, str]
) -> None:
    """On platforms that may freeze the process after the response, it is delivered before the result is handed over."""
    for name, value in platform.items():
        monkeypatch.setenv(name, value)
    guard = make_guard(flush_timeout=A_WHILE)

    async def main() -> Verdict | None:
        async with guard.invocation("root") as invocation:
            pass
        return invocation.delivery and invocation.delivery.verdict

    assert asyncio.run(main()) is Verdict.DELIVERED


def test_a_wait_for_the_delivery_can_be_asked_for(make_guard: Callable[..., Guard], server: BraintrustServer) -> None:
    """With flush="before-response" async code waits for its delivery, up to the flush timeout."""
    guard = make_guard(flush="before-response", flush_timeout=1.0)
    server.fail("/logs3", Fault.black_hole())

    async def main() -> Verdict | None:
        async with guard.invocation("root") as invocation:
            pass
        return invocation.delivery and invocation.delivery.verdict

    assert asyncio.run(main()) is Verdict.SPOOLED
    server.heal()
