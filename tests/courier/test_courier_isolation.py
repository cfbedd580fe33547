"""A row that makes requests fail although the server answers others: it becomes a dead letter, the others arrive."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import braintrust
import pytest
from fixtures import MakeGuard
from pytest_mock import MockerFixture
from support import (
    Program,
    end_row,
    environment,
    journals,
    pending_in,
    settings_for,
    start_row,
)

from trace_guard import Deadline, Delivery, Guard, Invocation, recover
from trace_guard.backends.memory import MemoryBackend
from trace_guard.delivery.courier import Courier
from trace_guard.delivery.dead_letters import DeadLetters, read_dead_letters
from trace_guard.journal.format import Flag
from trace_guard.journal.row_facts import NewRow
from trace_guard.rows import Row, merge
from trace_guard.testing import BraintrustServer, Fault

POISON = "poison"
FAILURES = {
    "500": Fault.status(500), "502": Fault.status(502), "503": Fault.status(503), "504": Fault.status(504),
    "501": Fault.status(501), "520": Fault.status(520), "404": Fault.status(404), "reset": Fault.reset(),
    "stored, then dropped": Fault.ingest_then_drop(),
}


def over(fault: Fault, is_poison: Callable[[Row], bool] = lambda row: row.get("input") == POISON) -> Fault:
    """The fault, limited to requests that carry a poison row."""
    return Fault(f"{fault.name} over poison", fault.injure, lambda rows: any(map(is_poison, rows)))


def span(name: str, **more: Any) -> Row:
    return {**start_row(name), "metrics": {"start": 1.0, "end": 2.0}, **more}


def names(server: BraintrustServer) -> set[str]:
    return {row["span_attributes"]["name"] for row in server.span_rows() if "span_attributes" in row}


def letters(directory: Path) -> list[Any]:
    """The rows that are kept as dead letters."""
    return [letter["row"] for letter in read_dead_letters(directory)]


def verdict(invocation: Invocation) -> object:
    assert invocation.delivery is not None
    return invocation.delivery.verdict


@pytest.mark.parametrize("failure", FAILURES.values(), ids=FAILURES)
def test_only_the_invocation_of_the_poison_is_refused(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, failure: Fault
) -> None:
    """An invocation with a row that always makes the server fail is REFUSED with the error, within its budget. Its span
    is closed, the row is a dead letter, and other invocations are delivered."""
    server.fail("/logs3", over(failure))
    guard = make_guard(linger=60)
    found = []
    for name, value in {"before": "fine", "bad": POISON, "after": "fine"}.items():
        with guard.invocation(name, input=value) as invocation:
            braintrust.start_span(f"child of {name}").end()
        found.append(verdict(invocation))
        assert invocation.delivery is not None
        if name == "bad":
            assert "fails over this row alone" in str(invocation.delivery.error)
            assert invocation.delivery.seconds < 2.0
    assert found == [Delivery.DELIVERED, Delivery.REFUSED, Delivery.DELIVERED]
    assert names(server) == {f"{kind}{name}" for kind in ("", "child of ") for name in ("before", "bad", "after")}
    assert server.open_spans() == []
    assert pending_in(directory) == []
    assert [row["input"] for row in letters(directory)] == [POISON]


def test_a_poison_row_that_is_all_there_is(server: BraintrustServer, make_guard: MakeGuard, directory: Path) -> None:
    """A poison row can be the only row of a batch: it becomes a dead letter once the identity of its span arrives. Only
    three in succession do, because the server might accept only small rows for a while."""
    server.fail("/logs3", over(Fault.status(500)))
    guard = make_guard(linger=60)
    found = []
    for count in range(5):
        with guard.invocation(f"bad {count}", input=POISON) as invocation:
            pass
        found.append(verdict(invocation))
    assert found == [Delivery.REFUSED] * 3 + [Delivery.SPOOLED] * 2
    assert len(letters(directory)) == 3
    server.heal()
    assert guard.pipeline.courier.drain(Deadline.after(10), force=True)
    assert len(server.span_rows()) == 5
    assert [row["span_attributes"]["name"] for row in server.span_rows() if row.get("input")] == ["bad 3", "bad 4"]


def test_no_form_of_the_poison_is_taken(server: BraintrustServer, make_guard: MakeGuard, directory: Path) -> None:
    """A span that the server rejects in any form is kept until another row proves that the server works."""
    server.fail("/logs3", over(Fault.status(500), lambda row: row["id"] == "id-bad"))
    guard = make_guard(linger=60)
    guard.pipeline.append([span("bad")])
    assert not guard.pipeline.courier.drain(Deadline.after(1.5), force=True)
    assert letters(directory) == []
    guard.pipeline.append([span("good")])
    assert guard.pipeline.courier.drain(Deadline.after(30), force=True)
    assert names(server) == {"good"}
    assert [row["id"] for row in letters(directory)] == ["id-bad"]
    assert pending_in(directory) == []


@pytest.mark.parametrize("places", [[0], [0, 1], [17, 63], [0, 31, 32, 63], list(range(0, 64, 8))])
def test_many_poison_rows_in_one_batch(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, places: Sequence[int]
) -> None:
    """However many rows of a batch are poison, and wherever they are, all others arrive whole."""
    server.fail("/logs3", over(Fault.status(500)))
    guard = make_guard(linger=60)
    guard.pipeline.append([span(f"s{n}", input=POISON if n in places else "fine") for n in range(64)])
    assert guard.pipeline.flush(Deadline.after(15))
    assert names(server) == {f"s{n}" for n in range(64)}
    assert len([row for row in server.rows() if row.get("input") == "fine"]) == 64 - len(places)
    assert sorted(row["id"] for row in letters(directory)) == sorted(f"id-s{n}" for n in places)
    assert pending_in(directory) == []


def test_poison_before_thousands(server: BraintrustServer, make_guard: MakeGuard, directory: Path) -> None:
    """A poison row at the start of a journal does not block the 5,000 rows behind it."""
    server.fail("/logs3", over(Fault.status(503)))
    guard = make_guard(linger=60)
    guard.pipeline.append([span("bad", input=POISON)])
    for start in range(0, 5000, 500):
        guard.pipeline.append([span(f"s{n}") for n in range(start, start + 500)])
    assert guard.pipeline.flush(Deadline.after(20))
    assert names(server) == {"bad", *(f"s{n}" for n in range(5000))}
    assert [row["id"] for row in letters(directory)] == ["id-bad"]


def test_rows_that_are_no_spans_can_be_poison(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """A dataset row that makes the server fail becomes a dead letter too, and the other rows arrive."""
    server.fail("/logs3", over(Fault.status(500)))
    guard = make_guard(linger=60)
    rows = [{"id": f"d{n}", "dataset_id": "set", "input": POISON if n == 2 else n} for n in range(5)]
    guard.pipeline.ingest([NewRow.of(row) for row in rows])
    assert guard.pipeline.flush(Deadline.after(10))
    assert {row["id"] for row in server.rows()} == {"d0", "d1", "d3", "d4"}
    assert letters(directory) == [rows[2]]


def test_poison_in_a_dead_process_s_journal(server: BraintrustServer, directory: Path, make_guard: MakeGuard) -> None:
    """A poison row of a dead process blocks neither that process's other rows nor those of this one."""
    code = """
        from trace_guard import Guard
        guard = Guard(flush_timeout=0.1)
        for name, value in (("one", "fine"), ("bad", "poison"), ("two", "fine")):
            with guard.invocation(name, input=value):
                pass
        say("done")
        listen()
    """
    server.refuse_connections()
    with Program(code, environment(server, directory)) as program:
        program.expects("done")
    server.accept_connections()
    server.fail("/logs3", over(Fault.status(500)))
    guard = make_guard(linger=0.1)
    with guard.invocation("mine") as invocation:
        pass
    assert verdict(invocation) in (Delivery.DELIVERED, Delivery.SPOOLED)
    server.wait_for(lambda: names(server) == {"one", "bad", "two", "mine"} and not server.open_spans(), 15)
    assert guard.pipeline.flush(Deadline.after(10))
    assert [row["input"] for row in letters(directory)] == [POISON]
    guard.close(timeout=1)
    assert journals(directory) == []


def test_recovery_gives_poison_up(server: BraintrustServer, directory: Path) -> None:
    """``recover`` delivers everything but the poison rows of a journal, and removes the journal."""
    with Program("""
        from trace_guard import Guard
        guard = Guard(flush_timeout=0.1)
        for name, value in (("bad", "poison"), ("worse", "poison"), ("good", "fine")):
            with guard.invocation(name, input=value):
                pass
        say("done")
        listen()
    """, environment(server, directory)) as program:
        server.refuse_connections()
        program.expects("done")
    server.accept_connections()
    server.fail("/logs3", over(Fault.reset()))
    recover(settings_for(server, directory), timeout=20)
    assert names(server) == {"bad", "worse", "good"}
    assert server.open_spans() == []
    assert len(letters(directory)) == 2
    assert journals(directory) == []


def test_a_row_that_is_never_answered(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """A row that the server never answers is found too, in the course of several requests of limited time."""
    server.fail("/logs3", over(Fault.black_hole()))
    guard = make_guard(linger=60)
    guard.pipeline.append([span(f"s{n}", input=POISON if n == 5 else "fine") for n in range(8)])
    courier = Courier(
        guard.pipeline.backend, DeadLetters(directory, 1 << 20), send_seconds=1.0, attempt_seconds=0.2
    )
    courier.add(guard.pipeline.journal())
    assert courier.drain(Deadline.after(20), force=True)
    assert names(server) == {f"s{n}" for n in range(8)}
    assert [row["id"] for row in letters(directory)] == ["id-s5"]


# What is no evidence


@pytest.mark.parametrize("failure", ["500", "reset"])
def test_a_server_that_is_down_for_everybody_costs_no_row(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, failure: str
) -> None:
    """While every request fails nothing becomes a dead letter, and all of it arrives afterwards."""
    server.fail("/logs3", FAILURES[failure])
    guard = make_guard(linger=60)
    guard.pipeline.append([span(f"s{n}", input="fine") for n in range(20)])
    for _ in range(3):
        guard.pipeline.courier.drain(Deadline.after(0.6), force=True)
    assert letters(directory) == []
    server.heal()
    assert guard.pipeline.courier.drain(Deadline.after(10), force=True)
    assert [row["input"] for row in server.rows()] == ["fine"] * 20
    assert letters(directory) == []


@pytest.mark.parametrize("answered", [1, 2, 4, 7])
def test_a_server_that_goes_down_during_the_search_costs_no_row(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, answered: int
) -> None:
    """A server that fails from time to time during the search for a cause turns no row into a dead letter."""
    lock, left = threading.Lock(), [answered]

    def injure(exchange: Any) -> Any:
        with lock:
            left[0] -= 1
        return Fault.status(500).injure(exchange) if left[0] < 0 else exchange.answer()

    server.fail("/logs3", Fault.status(500), times=3)
    server.fail("/logs3", Fault("for a while", injure))
    guard = make_guard(linger=60)
    guard.pipeline.append([span(f"s{n}", input="fine") for n in range(6)])
    guard.pipeline.courier.drain(Deadline.after(0.5), force=True)
    server.heal()
    assert guard.pipeline.courier.drain(Deadline.after(10), force=True)
    assert [row["input"] for row in server.rows()] == ["fine"] * 6
    assert letters(directory) == []


def test_a_server_that_fails_at_random_costs_no_row(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """If most requests fail, whatever rows they carry, all rows arrive in the end."""
    chance = random.Random(7)
    fault = Fault.status(500)
    server.fail("/logs3", Fault("at random", fault.injure, lambda rows: chance.random() < 0.6))
    guard = make_guard(linger=60)
    for count in range(10):
        guard.pipeline.append([span(f"s{count}-{n}") for n in range(5)])
        guard.pipeline.courier.drain(Deadline.after(0.4), force=True)
    assert guard.pipeline.courier.drain(Deadline.after(30), force=True)
    assert len(server.span_rows()) == 50
    assert letters(directory) == []


# Rows that we can't handle ourselves


@pytest.fixture
def faults_are_expected(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    yield
    caplog.get_records("call").clear()


DEEP = b'{"id":"deep","span_id":"deep","project_id":"p","input":' + b"[" * 3000 + b"]" * 3000 + b"}"
ODD = {
    "no JSON": b"\xff\xfe not json", "cut": b'{"id": "a"', "a list": b"[1]", "a text": b'"text"', "null": b"null",
    "a number": b"12", "deep": DEEP,
    "an id that is a list": b'{"id":["a"],"span_id":"a","root_span_id":"a","project_id":"p"}',
    "a project that is an object": b'{"id":"a","span_id":"a","root_span_id":"a","project_id":{"a":1}}',
}


@pytest.mark.parametrize("encoded", ODD.values(), ids=ODD)
def test_a_row_that_we_can_t_handle_holds_up_nothing(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, encoded: bytes
) -> None:
    """An entry of the journal that is not what a row should be is kept as a dead letter, and all others arrive."""
    guard = make_guard(linger=60)
    guard.pipeline.append([span("before")])
    guard.pipeline.journal().append([NewRow({"id": "odd"}, encoded, Flag.NONE)])
    guard.pipeline.append([span("after")])
    assert guard.pipeline.flush(Deadline.after(5))
    assert names(server) == {"before", "after"}
    assert len(letters(directory)) == 1
    assert pending_in_is_empty(guard)


def pending_in_is_empty(guard: Guard) -> bool:
    journal = guard.pipeline.journal()
    return journal.acked >= journal.end


def test_rows_that_can_t_be_merged_still_end_their_span(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, mocker: MockerFixture
) -> None:
    """If the rows of a span can't be merged, the later one becomes a dead letter, but its end is sent."""
    def fragile(into: Row, row: Row) -> Row:
        if row.get("output") == POISON:
            raise RecursionError("too deep")
        return merge(into, row)

    mocker.patch("trace_guard.delivery.batch.merge", fragile)
    guard = make_guard(linger=60)
    guard.pipeline.append([
        {**start_row("a"), "input": "kept"}, end_row("a", output=POISON), start_row("b"), end_row("b"),
    ])
    assert guard.pipeline.flush(Deadline.after(5))
    assert {row["id"]: (row["metrics"], row.get("input")) for row in server.rows()} == {
        "id-a": ({"start": 1000.0, "end": 1001.0}, "kept"), "id-b": ({"start": 1000.0, "end": 1001.0}, None),
    }
    assert letters(directory) == [end_row("a", output=POISON)]


class Fragile(MemoryBackend):
    """A backend whose own code raises for some rows."""

    def __init__(self, fault: Exception) -> None:
        super().__init__()
        self.fault = fault
        self.broken = False

    def send(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        if self.broken or any(POISON.encode() in row for row in rows):
            raise self.fault
        super().send(rows, deadline)


@pytest.mark.usefixtures("faults_are_expected")
@pytest.mark.parametrize("fault", [TypeError("odd"), RecursionError("deep"), KeyError("k"), AssertionError()])
def test_a_row_that_our_own_code_fails_over(directory: Path, fault: Exception) -> None:
    """If our own code raises for one row, that row becomes a dead letter and the others arrive. If it raises for every
    row, none becomes a dead letter."""
    backend = Fragile(fault)
    guard = Guard(settings_for(None, directory, backend="memory", linger=60.0), backend=backend)
    with guard.invocation("good"):
        pass
    with guard.invocation("bad", input=POISON) as bad:
        pass
    with guard.invocation("later") as later:
        pass
    assert (verdict(bad), verdict(later)) == (Delivery.REFUSED, Delivery.DELIVERED)
    assert len(backend.rows()) == 3
    assert len(letters(directory)) == 1
    backend.broken = True
    began = time.monotonic()
    for _ in range(5):
        with guard.invocation("while it is broken") as invocation:
            pass
        assert verdict(invocation) is Delivery.SPOOLED
    assert time.monotonic() - began < 3.0
    backend.broken = False
    assert guard.pipeline.courier.drain(Deadline.after(10), force=True)
    assert len(backend.rows()) == 8
    assert len(letters(directory)) == 1
    guard.close(timeout=1)


def test_a_pause_that_the_server_asks_for_does_not_protect_a_poison_row(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """A row that always gets a 503 with Retry-After is found after the pause, and the other rows arrive."""
    server.fail("/logs3", over(Fault.status(503, retry_after=0.1)))
    guard = make_guard(linger=60)
    guard.pipeline.append([span("a"), span("bad", input=POISON), span("b")])
    assert guard.pipeline.courier.drain(Deadline.after(20), force=True)
    assert names(server) >= {"a", "b"}
    assert [letter.get("input") for letter in letters(directory)] == [POISON]
