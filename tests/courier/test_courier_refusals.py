"""What the server refuses: bad rows, keys, and requests that come too early."""

from __future__ import annotations

import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import braintrust
import pytest
from fixtures import MakeGuard
from pytest_mock import MockerFixture
from support import end_row, pending_in, settings_for, start_row

from trace_guard import Deadline, Delivery
from trace_guard.delivery.breaker import Breaker
from trace_guard.delivery.courier import Courier
from trace_guard.delivery.dead_letters import DeadLetters, read_dead_letters
from trace_guard.runtime.status import read_status
from trace_guard.testing import BraintrustServer, Fault


def by_name(server: BraintrustServer) -> dict[str, Any]:
    return {row["span_attributes"]["name"]: row for row in server.span_rows()}


def test_a_bad_row_neither_blocks_nor_fails_others(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """A row that is refused for good becomes a dead letter, its span is closed nevertheless, and the other rows arrive
    complete."""
    server.fail("/logs3", Fault.refuse_rows(lambda row: row.get("input") == "bad"))
    guard = make_guard(linger=60)
    with guard.invocation("other", input="fine") as other:
        pass
    with guard.invocation("root", input="fine") as invocation:
        for count in range(5):
            with braintrust.start_span(f"child {count}", input="fine") as child:
                child.log(output=count)
        with braintrust.start_span("bad", input="bad", metadata={"k": 1}) as bad:
            bad.log(output="lost to the server")
    with guard.invocation("later") as later:
        pass
    assert [one.delivery and one.delivery.verdict for one in (other, invocation, later)] == [
        Delivery.DELIVERED, Delivery.REFUSED, Delivery.DELIVERED
    ]
    assert invocation.delivery is not None
    assert "400" in str(invocation.delivery.error)
    rows = by_name(server)
    assert [rows[f"child {count}"]["output"] for count in range(5)] == list(range(5))
    assert rows["root"]["input"] == "fine"
    (letter,) = read_dead_letters(directory)
    whole = letter["row"]
    assert (letter["status"], whole["input"], whole["output"]) == (400, "bad", "lost to the server")
    ids = ("id", "span_id", "root_span_id", "span_parents", "project_id", "log_id", "created", "metrics")
    assert rows["bad"] == {
        **{key: whole[key] for key in ids}, "span_attributes": {"name": "bad"},
        "metadata": {"trace_guard": {"payload_dropped": True}},
    }
    assert server.open_spans() == []
    assert pending_in(directory) == []
    assert read_status(settings_for(server, directory)).dead_letters == 1


@pytest.mark.parametrize(
    "bad", [{"tags": ["not on a child"]}, {"metrics": {"tokens": "many"}}, {"span_attributes": {"purpose": 1}}]
)
def test_a_span_is_closed_whatever_the_server_dislikes_in_it(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, bad: dict[str, Any]
) -> None:
    """If an end is refused for its tags, metrics or attributes, it is sent without them, so that the span is closed."""
    (field, value), = bad.items()
    unwanted = value if isinstance(value, list) else next(iter(value))
    server.fail("/logs3", Fault.refuse_rows(
        lambda row: row.get(field) == unwanted or (isinstance(row.get(field), dict) and unwanted in row[field])
    ))
    guard = make_guard(linger=60)
    guard.pipeline.append([start_row("a")])
    assert guard.pipeline.flush(Deadline.after(10))
    end = end_row("a")
    end[field] = {**end.get(field, {}), **value} if isinstance(value, dict) else value
    guard.pipeline.append([end])
    assert guard.pipeline.flush(Deadline.after(10))
    assert server.open_spans() == []
    assert by_name(server)["a"]["metrics"] == {"start": 1000.0, "end": 1001.0}
    assert [letter["row"] for letter in read_dead_letters(directory)] == [{**end, "_is_merge": True}]


def test_many_bad_rows_are_all_found_in_the_end(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """With more bad rows than can be found in the time of one request, each request finds more, until all are found."""
    server.latency = 0.01
    server.fail("/logs3", Fault.refuse_rows(lambda row: row.get("input") == "bad"))
    guard = make_guard(linger=60)
    rows = [{**start_row(f"s{n}"), "metrics": {"start": 1.0, "end": 2.0}, "input": "bad" if n % 8 else "fine"}
            for n in range(32)]
    guard.pipeline.append(rows)
    courier = Courier(guard.pipeline.backend, DeadLetters(directory, 1 << 20), send_seconds=0.3)
    courier.add(guard.pipeline.journal())
    assert courier.drain(Deadline.after(30), force=True)
    assert len(list(read_dead_letters(directory))) == 28
    assert {row["id"] for row in server.rows()} == {row["id"] for row in rows}
    assert [row["id"] for row in server.rows() if row.get("input") == "fine"] == [f"id-s{n}" for n in range(0, 32, 8)]


def test_a_disk_that_won_t_take_dead_letters_holds_up_nothing(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If refused rows can't be kept, that is reported once, and delivery goes on."""
    server.fail("/logs3", Fault.refuse_rows(lambda row: row.get("input") == "bad"))
    guard = make_guard(linger=60)
    guard.start()
    (directory / "dead-letters").write_text("")
    for count in range(2):
        guard.pipeline.append([{**start_row(f"a{count}"), "input": "bad"}, end_row(f"a{count}"), end_row("b")])
        assert guard.pipeline.flush(Deadline.after(5))
    assert server.open_spans() == []
    assert [record.getMessage() for record in caplog.records if "can't be kept" in record.getMessage()] == [
        f"trace-guard: refused rows can't be kept in {directory / 'dead-letters'}: [Errno 17] File exists: "
        f"'{directory / 'dead-letters'}'"
    ]


def test_a_batch_that_is_too_large_is_halved(server: BraintrustServer, make_guard: MakeGuard, directory: Path) -> None:
    """A body that is too large (413) is sent in halves until the parts fit; nothing becomes a dead letter."""
    server.max_body_bytes = 5000
    guard = make_guard(linger=60)
    rows = [{**start_row(f"s{n}"), "metrics": {"start": 1.0, "end": 2.0}, "input": "x" * 700} for n in range(20)]
    guard.pipeline.append(rows)
    assert guard.pipeline.flush(Deadline.after(10))
    assert [row["input"] for row in server.rows()] == ["x" * 700] * 20
    assert list(read_dead_letters(directory)) == []
    assert max(len(request.rows) for request in server.requests if len(request.body) <= 5000) > 1


def test_a_row_that_is_too_large_arrives_without_its_payload(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """A single row that is too large is sent without its payload, with a mark, and kept whole as a dead letter."""
    server.max_body_bytes = 5000
    guard = make_guard(linger=60)
    row = {**start_row("s"), "input": "x" * 7000, "metrics": {"start": 1.0, "end": 2.0}}
    guard.pipeline.append([row, start_row("t"), end_row("t")])
    assert guard.pipeline.flush(Deadline.after(10))
    assert by_name(server)["s"] == {
        **{key: value for key, value in row.items() if key not in ("input", "_is_merge")},
        "metadata": {"trace_guard": {"payload_dropped": True}},
    }
    assert server.open_spans() == []
    assert [(letter["status"], letter["row"]) for letter in read_dead_letters(directory)] == [
        (413, {**row, "_is_merge": True})
    ]


def test_a_project_that_can_t_be_holds_up_no_other(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """Rows of a project whose name the server refuses become dead letters, and those of others arrive."""
    refusal = Fault.status(400)
    server.fail("/v1/project", Fault(
        "bad name", lambda exchange: refusal.injure(exchange) if b"bad" in exchange.request.body else exchange.answer()
    ))
    guard = make_guard(linger=60)
    names = {"a": "bad name", "b": "good name"}
    guard.pipeline.append([
        {**row, "project_id": f"trace-guard:project:{names[name]}"}
        for name in names for row in (start_row(name), end_row(name))
    ])
    assert guard.pipeline.flush(Deadline.after(10))
    assert [row["id"] for row in server.rows()] == ["id-b"]
    assert server.open_spans() == []
    assert [letter["row"]["id"] for letter in read_dead_letters(directory)] == ["id-a", "id-a"]


@pytest.mark.parametrize("status", [401, 403])
def test_rows_are_kept_until_the_key_works_again(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A refused key costs no row: it is reported once, and all rows arrive when the key is accepted again."""
    server.fail("/logs3", Fault.status(status))
    guard = make_guard(linger=60)
    verdicts = []
    for count in range(2):
        with guard.invocation(f"root {count}") as invocation:
            pass
        assert invocation.delivery is not None
        verdicts.append((invocation.delivery.verdict, str(status) in str(invocation.delivery.error)))
    assert verdicts == [(Delivery.SPOOLED, True)] * 2
    assert len({row["id"] for row in pending_in(directory)}) == 2
    said = [record.getMessage() for record in caplog.records if "BRAINTRUST_API_KEY" in record.getMessage()]
    assert len(said) == 1
    assert server.rows() == []
    assert list(read_dead_letters(directory)) == []
    server.heal()
    assert guard.pipeline.flush(Deadline.after(10))
    assert sorted(by_name(server)) == ["root 0", "root 1"]
    assert server.open_spans() == []


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_the_server_is_left_alone_as_long_as_it_asks(
    server: BraintrustServer, make_guard: MakeGuard, form: str
) -> None:
    """After a 429 with Retry-After, in seconds or as a date, no request comes before that, and then rows arrive."""
    date = int(time.time()) + 2
    value = "1" if form == "seconds" else formatdate(date, usegmt=True)
    server.fail("/logs3", Fault.status(429, retry_after=value), times=1)
    guard = make_guard(linger=60, flush_timeout=10.0)
    with guard.invocation("root") as invocation:
        pass
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is Delivery.DELIVERED
    first, second = (request.at for request in server.requests)
    earliest = first + 1 if form == "seconds" else date
    assert earliest - 0.05 <= second < earliest + 3
    assert server.open_spans() == []


def test_a_long_wish_delays_no_invocation_and_is_heeded(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """If Retry-After exceeds the time that is left, invocations don't wait, and no request is sent before it has
    passed."""
    server.fail("/logs3", Fault.status(429, retry_after=3600))
    guard = make_guard(linger=0.0)
    waits = []
    for _ in range(6):
        with guard.invocation("root") as invocation:
            pass
        assert invocation.delivery is not None
        assert invocation.delivery.verdict is Delivery.SPOOLED
        waits.append(invocation.delivery.seconds)
    assert max(waits[1:]) < 0.1, waits
    began = time.monotonic()
    assert not guard.pipeline.courier.drain(Deadline.after(10), force=True)
    assert time.monotonic() - began < 1.0
    assert len(server.requests) == 1


def test_the_breaker_waits_longer_each_time_but_never_too_long(mocker: MockerFixture) -> None:
    """The breaker opens at the third failure in a row, lets a probe through after 1, 2, 4 and then every 5 seconds, and
    respects Retry-After for a minute at most."""
    clock = mocker.patch("trace_guard.delivery.breaker.monotonic", return_value=1000.0)
    breaker = Breaker()
    pauses = []
    for count in range(1, 8):
        breaker.failed("down")
        assert breaker.is_open is (count >= 3)
        pauses.append(max(0.0, breaker.retry_at - clock.return_value))
        clock.return_value = max(clock.return_value, breaker.retry_at)
        assert breaker.allows()
    assert pauses == [0.0, 0.0, 1.0, 2.0, 4.0, 5.0, 5.0]
    breaker.succeeded()
    assert (breaker.is_open, breaker.allows(), breaker.last_error) == (False, True, None)
    breaker.failed("later", 86_400)
    assert breaker.retry_at - clock.return_value == 60.0
    breaker.failed("no answer")
    breaker.let_through()
    assert (breaker.allows(), breaker.retry_at - clock.return_value) == (False, 60.0)


def test_dead_letters_are_kept_once_and_not_without_bound(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A row that is refused again is kept once. Beyond their size limit, dead letters are only reported."""
    server.fail("/logs3", Fault.refuse_rows(lambda row: "bad" in str(row.get("input"))))
    guard = make_guard(linger=60, max_journal_bytes=800_000)
    same = {**start_row("same"), "metrics": {"start": 1.0, "end": 2.0}, "input": "bad"}
    for _ in range(3):
        guard.pipeline.append([same])
        assert guard.pipeline.flush(Deadline.after(10))
    assert len(list(read_dead_letters(directory))) == 1
    for count in range(30):
        guard.pipeline.append([{**same, "id": f"id-{count}", "input": "bad" * 3000}])
        assert guard.pipeline.flush(Deadline.after(10))
    kept = sum(file.stat().st_size for file in (directory / "dead-letters").iterdir())
    assert 100_000 < kept < 115_000
    assert len([record for record in caplog.records if "is full" in record.getMessage()]) == 1
    assert {row["id"] for row in server.rows()} == {"id-same", *(f"id-{count}" for count in range(30))}
