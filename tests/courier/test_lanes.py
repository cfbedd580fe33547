"""Lanes: deliveries of different traces go side by side, those of one trace in order, out of bounded memory."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import braintrust
import pytest
from fixtures import MakeGuard
from support import Program, end_row, environment, journals, pending_in, settings_for, start_row, until

from trace_guard import Deadline, Delivery, Guard, recover
from trace_guard.delivery.handover import MEMORY
from trace_guard.journal import journal as journal_module
from trace_guard.testing import BraintrustServer, Fault


class Gate:
    """Holds requests that have a row with the input "held", until it is opened."""

    def __init__(self, server: BraintrustServer) -> None:
        self.came = threading.Event()
        self.opened = threading.Event()
        server.fail("/logs3", Fault("held", self._hold, lambda rows: any(row.get("input") == "held" for row in rows)))

    def _hold(self, exchange: Any) -> Any:
        self.came.set()
        self.opened.wait(20)
        return exchange.answer()


@pytest.fixture
def gate(server: BraintrustServer) -> Iterator[Gate]:
    gate = Gate(server)
    yield gate
    gate.opened.set()


@pytest.fixture
def held(gate: Gate, make_guard: MakeGuard) -> Iterator[Callable[[], Guard]]:
    """A guard with one invocation whose request is held; the fixture's function returns the guard."""
    guard = make_guard(linger=60, flush_timeout=20)

    def invoke() -> Delivery | None:
        with guard.invocation("slow", input="held") as invocation:
            pass
        return invocation.delivery

    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(invoke)
        assert gate.came.wait(20)
        yield lambda: guard
        assert not slow.done()
        gate.opened.set()
        delivery = slow.result(20)
        assert delivery is not None
        assert delivery.verdict is Delivery.DELIVERED


def test_a_slow_trace_does_not_hold_up_another(server: BraintrustServer, held: Callable[[], Guard]) -> None:
    """While the request of one trace is not answered, invocations with other traces are delivered."""
    for count in range(5):
        with held().invocation(f"quick {count}", input="free") as invocation:
            pass
        assert invocation.delivery is not None
        assert invocation.delivery.verdict is Delivery.DELIVERED
    assert {row["span_attributes"]["name"] for row in server.span_rows()} == {f"quick {count}" for count in range(5)}


def test_later_rows_of_a_trace_wait_for_its_request(
    server: BraintrustServer, make_guard: MakeGuard, gate: Gate
) -> None:
    """While a request with rows of a trace is in flight, no other one has rows of it; then they follow at once."""
    guard = make_guard(linger=60)
    guard.pipeline.append([{**start_row("a"), "input": "held"}])
    guard.pipeline.courier.send_soon()
    assert gate.came.wait(20)
    for count in range(3):
        guard.pipeline.append([{**end_row("child", root="a"), "output": count}, start_row(f"b{count}")])
        guard.pipeline.courier.send_soon()
        server.wait_for(lambda count=count: f"id-b{count}" in {row["id"] for row in server.rows()}, 10)
    assert all(row["root_span_id"] != "a" for row in server.rows())
    gate.opened.set()
    server.wait_for(lambda: {"id-a", "id-child"} <= {row["id"] for row in server.rows()}, 10)
    assert [row["output"] for row in server.rows() if row["id"] == "id-child"] == [2]


def test_feedback_follows_the_span_that_it_is_about(
    server: BraintrustServer, make_guard: MakeGuard, gate: Gate
) -> None:
    """A row without a trace that has the id of a span in flight leaves after it."""
    guard = make_guard(linger=60)
    guard.pipeline.append([{**start_row("a"), "input": "held", "scores": {"s": 1}}])
    guard.pipeline.courier.send_soon()
    assert gate.came.wait(20)
    feedback = {"id": "id-a", "project_id": start_row("a")["project_id"], "log_id": "g", "_is_merge": True}
    guard.pipeline.append([{**feedback, "scores": {"s": 2}}])
    assert not guard.pipeline.flush(Deadline.after(0.2))
    assert server.rows() == []
    gate.opened.set()
    assert guard.pipeline.flush(Deadline.after(10))
    assert [row["scores"] for row in server.rows()] == [{"s": 2}]


def test_a_trace_of_another_object_is_waited_for(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """The delivery of an invocation ends when the rows of spans that are roots elsewhere have arrived as well."""
    server.fail("/logs3", Fault.slow(0.3), times=1)
    guard = make_guard(linger=0.0, flush_timeout=10)
    with guard.invocation("root") as invocation:
        other = {**start_row("elsewhere"), "metrics": {"start": 4e9, "end": 4e9}}
        guard.pipeline.append([other])
        server.wait_for(lambda: len(server.requests) == 1, 10)
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is Delivery.DELIVERED
    assert "id-elsewhere" in {row["id"] for row in server.rows()}


@pytest.mark.skipif(sys.platform != "linux", reason="counts the switches of a thread")
def test_a_caller_is_woken_by_its_own_delivery(server: BraintrustServer, gate: Gate, make_guard: MakeGuard) -> None:
    """A thread that waits for its delivery sleeps through the deliveries of others."""
    guard = make_guard(linger=60, flush_timeout=20)
    threads: list[int] = []

    def invoke() -> None:
        threads.append(threading.get_native_id())
        with guard.invocation("slow", input="held"):
            pass

    def switches() -> int:
        status = Path(f"/proc/self/task/{threads[0]}/status").read_text()
        return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])

    slow = threading.Thread(target=invoke)
    slow.start()
    assert gate.came.wait(20)
    state = Path(f"/proc/self/task/{threads[0]}/stat")
    until(lambda: state.read_text().rpartition(")")[2].split()[0] == "S")
    before = switches()
    for count in range(30):
        with guard.invocation(f"quick {count}"):
            pass
    assert switches() == before
    gate.opened.set()
    slow.join(20)


def test_the_disk_is_not_read_while_all_is_well(
    server: BraintrustServer, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows reach the courier in memory: many invocations at once, with spans in each, read nothing from the journal."""
    reads: list[object] = []
    plain = journal_module.FileJournal.read
    monkeypatch.setattr(
        journal_module.FileJournal, "read", lambda self, after: reads.append(after) or plain(self, after)
    )
    server.latency = 0.01
    guard = make_guard(linger=0.02)

    def invoke(count: int) -> Delivery | None:
        with guard.invocation(f"root {count}", input=count) as invocation:
            for _ in range(3):
                with braintrust.start_span("child", input="x" * 1000):
                    pass
        return invocation.delivery

    with ThreadPoolExecutor(16) as pool:
        deliveries = list(pool.map(invoke, range(200)))
    assert {delivery and delivery.verdict for delivery in deliveries} == {Delivery.DELIVERED}
    assert len(server.span_rows()) == 800
    assert server.open_spans() == []
    assert reads == []
    until(lambda: MEMORY.held == 0)


@pytest.mark.parametrize("limit", [0, 20_000])
def test_what_memory_does_not_hold_is_read_from_disk(
    server: BraintrustServer, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch, limit: int
) -> None:
    """Without room in memory the courier reads the disk: every row arrives, once and in order, and memory stays
    bounded."""
    monkeypatch.setattr(MEMORY, "limit", limit)
    guard = make_guard(linger=0.01, flush_timeout=20)
    guard.pipeline.backend.max_bytes = 10_000
    most = 0

    def invoke(count: int) -> Delivery | None:
        nonlocal most
        with guard.invocation(f"root {count}") as invocation:
            for number in range(20):
                guard.pipeline.append([{**start_row(f"{count}-{number}", root=str(count % 7)), "input": "x" * 500}])
                guard.pipeline.append([{**end_row(f"{count}-{number}", root=str(count % 7)), "output": number}])
                most = max(most, MEMORY.held)
        return invocation.delivery

    with ThreadPoolExecutor(4) as pool:
        deliveries = list(pool.map(invoke, range(20)))
    assert {delivery and delivery.verdict for delivery in deliveries} == {Delivery.DELIVERED}
    assert guard.pipeline.flush(Deadline.after(20))
    rows = {row["id"]: row.get("output") for row in server.rows() if row["id"].startswith("id-")}
    assert rows == {f"id-{count}-{number}": number for count in range(20) for number in range(20)}
    assert server.open_spans() == []
    # Four writers and four requests, each a row beyond.
    assert most <= limit + 10 * 2000
    assert MEMORY.held == 0


def test_a_dead_backend_costs_flat_memory(server: BraintrustServer, directory: Path) -> None:
    """While the backend is down, rows beyond a bound are only on disk, however many there are; then all arrive."""
    server.refuse_connections()
    with Program("""
    from support import peak_memory, start_row
    from trace_guard import Deadline, Guard
    from trace_guard.delivery.handover import MEMORY
    guard = Guard(linger=0.0, max_journal_bytes=1 << 30)
    written = 0
    def write(megabytes):
        global written
        for _ in range(megabytes * 16):
            row = {**start_row(f"s{written}"), "metrics": {"start": 1.0, "end": 2.0}, "input": "x" * 65_000}
            guard.pipeline.append([row])
            written += 1
        guard.pipeline.flush(Deadline.after(1))
        return peak_memory()
    write(24)
    before = write(8)
    say((write(64) - before) // 1024, MEMORY.held <= MEMORY.limit + (1 << 20))
    listen()
    say(guard.pipeline.courier.drain(Deadline.after(60), force=True), written)
    """, environment(server, directory)) as program:
        grown, is_bounded = program.hears(60).split()
        assert (int(grown) < 16, is_bounded) == (True, "True"), grown
        server.accept_connections()
        program.tell()
        program.expects("True", 96 * 16, seconds=60)
    assert len(server.rows()) == 96 * 16


def test_what_was_settled_out_of_order_is_not_lost_with_the_process(
    server: BraintrustServer, directory: Path, gate: Gate
) -> None:
    """A process is killed after later traces were delivered and before an earlier one was: a recovery delivers that
    one, and changes nothing of the others."""
    with Program("""
    from support import end_row, start_row
    from trace_guard import Guard
    guard = Guard(linger=60, flush_timeout=20)
    guard.pipeline.append([{**start_row("first"), "input": "held"}])
    guard.pipeline.courier.send_soon()
    listen()
    for count in range(5):
        with guard.invocation(f"later {count}", input="free") as invocation:
            pass
        assert invocation.delivery.verdict.value == "delivered"
    say("delivered")
    guard.pipeline.append([end_row("first")])
    say("written")
    listen()
    """, environment(server, directory)) as program:
        assert gate.came.wait(20)
        program.tell()
        program.expects("delivered")
        program.expects("written")
        program.kill()
    gate.opened.set()
    before = {row["id"]: row for row in server.rows() if row["id"] != "id-first"}
    assert {row["id"] for row in pending_in(directory)} == {"id-first", *before}
    found = recover(settings_for(server, directory), timeout=10)
    assert (found.pending_rows, found.error) == (0, None)
    rows = {row["id"]: row for row in server.rows()}
    assert rows.pop("id-first")["metrics"] == {"start": 1000.0, "end": 1001.0}
    assert rows == before
    assert server.open_spans() == []
    assert journals(directory) == []
