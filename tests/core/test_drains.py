"""Flush hooks: libraries that buffer spans are flushed before the delivery."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path

import braintrust
import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend
from trace_guard.drains import flush_opentelemetry

A_LONG_TIME_MS = 3_600_000


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, tmp_path: Path) -> Iterator[Guard]:
    guard = Guard(backend=backend, dir=tmp_path, project="p", linger=60, flush_timeout=1.0)
    yield guard
    guard.close()


def names(backend: MemoryBackend) -> list[tuple[str, bool]]:
    """The names of the spans, and whether they are in the root's trace."""
    roots = {row["root_span_id"] for row in backend.rows() if row["span_attributes"]["name"] == "root"}
    return sorted((row["span_attributes"]["name"], row["root_span_id"] in roots) for row in backend.rows())


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_an_executor_still_logs_is_part_of_the_trace(
    guard: Guard, backend: MemoryBackend, asynchronous: bool
) -> None:
    """A span that a thread logs after the handler returns is delivered with the trace, below the root."""
    pending = []

    @guard.before_flush
    def finish() -> None:
        wait(pending)
        with braintrust.start_span("callback"):
            pass

    def begin(executor: ThreadPoolExecutor) -> None:
        root, returned = braintrust.current_span(), threading.Event()
        pending.append(executor.submit(lambda: returned.wait(0.05) or root.start_span("late").end()))

    async def main(executor: ThreadPoolExecutor) -> None:
        async with guard.invocation("root"):
            begin(executor)

    with ThreadPoolExecutor() as executor:
        if asynchronous:
            asyncio.run(main(executor))
        else:
            with guard.invocation("root") as invocation:
                begin(executor)
            assert invocation.delivery is not None
            assert invocation.delivery.verdict.value == "delivered"
    assert names(backend) == [("callback", True), ("late", True), ("root", True)]


def test_a_hanging_hook_costs_a_bounded_time(guard: Guard, backend: MemoryBackend) -> None:
    """A hook that never ends takes at most half of the time for delivery, and the trace is delivered."""
    never = threading.Event()
    guard.before_flush(never.wait)
    began = time.monotonic()
    with guard.invocation("root") as invocation:
        pass
    never.set()
    assert time.monotonic() - began < 0.9
    assert invocation.delivery is not None
    assert invocation.delivery.verdict.value == "delivered"


def test_a_hanging_hook_costs_one_thread(
    guard: Guard, backend: MemoryBackend, caplog: pytest.LogCaptureFixture
) -> None:
    """A hanging hook is not called again until it ends, and all traces are delivered meanwhile."""
    go_on, called = threading.Event(), []

    @guard.before_flush
    def hang() -> None:
        called.append(threading.current_thread())
        go_on.wait(20)

    settings = replace(guard.settings, flush_timeout=0.05)
    for _ in range(10):
        with guard.with_settings(settings).invocation("root"):
            pass
    assert len(called) == 1
    assert "they are not called again" in caplog.text
    assert guard.flush(10)
    assert names(backend) == [("root", True)] * 10
    go_on.set()
    called[0].join(20)
    with guard.invocation("root"):
        pass
    assert len(called) == 2


def test_concurrent_ends_all_run_their_hooks(guard: Guard) -> None:
    """Invocations that end at the same time all run their hooks."""
    together = threading.Barrier(4)
    guard.before_flush(lambda: together.wait(20))

    def invoke() -> None:
        with guard.with_settings(replace(guard.settings, flush_timeout=40.0)).invocation("root"):
            pass

    with ThreadPoolExecutor(4) as executor:
        for done in [executor.submit(invoke) for _ in range(4)]:
            done.result()
    assert (together.broken, together.n_waiting) == (False, 0)


def test_a_hook_that_raises_is_harmless(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    """An exception of a hook is logged, and neither other hooks nor user code notice."""
    called = []

    def faulty() -> None:
        called.append("faulty")
        raise LookupError("not ours")

    guard.before_flush(faulty)
    guard.before_flush(lambda: called.append("next"))
    with guard.invocation("root"):
        pass
    assert called == ["faulty", "next"]
    assert "faulty before the delivery" in caplog.text
    caplog.clear()


def test_opentelemetry_is_flushed(guard: Guard) -> None:
    """Spans in OpenTelemetry's batch processor are exported before the invocation ends."""
    exported = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(exported, schedule_delay_millis=A_LONG_TIME_MS))
    guard.before_flush(flush_opentelemetry(provider))
    guard.before_flush(flush_opentelemetry())  # the global provider is not set, so there is nothing to flush
    with guard.invocation("root"), provider.get_tracer("x").start_as_current_span("model call"):
        pass
    assert [span.name for span in exported.get_finished_spans()] == ["model call"]
    provider.shutdown()


def test_hooks_are_shared_with_derived_guards(guard: Guard) -> None:
    """A guard made by ``with_settings`` has the hooks of its base."""
    called = []
    guard.before_flush(lambda: called.append(1))
    with guard.with_settings(guard.settings).invocation("root"):
        pass
    assert called == [1]


async def _coroutine() -> None: ...


@pytest.mark.parametrize("function", [_coroutine, None])
def test_only_plain_functions_are_accepted(guard: Guard, function: object) -> None:
    """A coroutine function or a non-callable raises at once, with a message that says what is accepted."""
    with pytest.raises(TypeError, match="a plain function without parameters"):
        guard.before_flush(function)  # type: ignore[type-var]
