"""Delivery at the end of a job."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support import Program, environment

from trace_guard import Guard
from trace_guard.outcome import Verdict
from trace_guard.runtime.state import PROCESS
from trace_guard.testing import BraintrustServer, Fault


def test_a_job_waits_up_to_the_exit_timeout(make_guard: Callable[..., Guard], server: BraintrustServer) -> None:
    """The end of a job waits for delivery up to the exit timeout, and the exit does not wait for the same time
    again."""
    server.fail("/logs3", Fault.slow(0.3), times=1)
    with make_guard(flush_timeout=0.01).job("slow") as job:
        pass
    assert job.invocation.delivery is not None
    assert job.invocation.delivery.verdict is Verdict.DELIVERED
    assert PROCESS.waited == 0.0
    server.fail("/logs3", Fault.black_hole())
    with make_guard(flush_timeout=0.01, exit_timeout=0.6).job("dead") as job:
        pass
    assert job.invocation.delivery is not None
    assert job.invocation.delivery.verdict is Verdict.SPOOLED
    assert job.invocation.delivery.seconds > 0.5
    assert 0.0 < PROCESS.waited <= job.invocation.delivery.seconds
    server.heal()
    PROCESS.has_waited(0.0)


def test_steps_of_children_of_a_pool_are_delivered(server: BraintrustServer, directory: Path) -> None:
    """Steps in the processes of a pool are below their job and are delivered, although a pool kills its children or
    ends them without a normal exit."""
    with Program("""
        import concurrent.futures, multiprocessing
        from trace_guard import guard_job, step

        def work(number):
            with step("work", metadata={"number": number}):
                return number

        @guard_job
        def nightly():
            fork = multiprocessing.get_context("fork")
            with fork.Pool(2) as pool:
                pool.map(work, range(6))
            with concurrent.futures.ProcessPoolExecutor(2, mp_context=fork) as pool:
                list(pool.map(work, range(6, 12)))

        nightly()
    """, environment(server, directory)) as program:
        program.ends_well()
    assert server.open_spans() == []
    rows = server.span_rows()
    works = [row for row in rows if row["span_attributes"]["name"] == "work"]
    assert sorted(row["metadata"]["number"] for row in works) == list(range(12))
    (root,) = [row for row in rows if row["span_attributes"]["name"] == "nightly"]
    assert {row["span_parents"][0] for row in works} == {root["span_id"]}
