"""The requests: how many there are, and which rows they carry in which order."""

from __future__ import annotations

import json
import random
import threading
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import braintrust
import pytest
import requests
from fixtures import MakeGuard
from support import PROJECT_ID, end_row, start_row, until

from trace_guard import Deadline
from trace_guard.rows import row_key
from trace_guard.runtime.state import PROCESS
from trace_guard.testing import BraintrustServer, Fault


def work() -> None:
    """Some spans, one of them left open."""
    with braintrust.start_span("child", input={"n": 1}) as child:
        child.log(metadata={"k": 1})
        child.log(output=[1, 2])
        with child.start_span("grandchild"):
            pass
    braintrust.start_span("left open")


def test_an_invocation_costs_one_request_and_no_other(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Each invocation is one request, the first one too, and nothing is looked up when the project's id is set."""
    guard = make_guard()
    for count in range(1, 6):
        with guard.invocation("root") as invocation:
            work()
        assert invocation.delivery is not None
        assert invocation.delivery.verdict is invocation.delivery.DELIVERED
        assert [(request.method, request.path) for request in server.requests] == [("POST", "/logs3")] * count
        assert {row["root_span_id"] for row in server.requests[-1].rows} == {invocation.span.root_span_id}
    assert server.open_spans() == []
    assert Counter(row["span_attributes"]["name"] for row in server.span_rows()) == {
        "root": 5, "child": 5, "grandchild": 5, "left open": 5
    }


def test_every_span_row_is_a_merge_and_no_span_is_named_twice(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """In a request every row of a span is a merge, and there is one row for each span, however much was logged."""
    guard = make_guard(linger=0.0)
    for _ in range(3):
        with guard.invocation("root") as invocation:
            work()
            braintrust.flush()
            before = len(server.requests)
            server.wait_for(lambda before=before: len(server.requests) > before or len(server.rows()) > 3, 10)
            invocation.span.log(scores={"s": 1})
            work()
    assert len(server.requests) > 3
    for request in server.requests_to("/logs3"):
        assert request.rows
        assert json.loads(request.body)["api_version"] == 2
        assert [row["_is_merge"] for row in request.rows] == [True] * len(request.rows)
        assert set(Counter(map(row_key, request.rows)).values()) == {1}
    assert server.open_spans() == []


def test_invocations_that_end_together_share_requests(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Many simultaneous invocations share a few requests, and each is DELIVERED only when its rows have arrived."""
    server.latency = 0.1
    guard = make_guard()
    together = threading.Barrier(32)

    def invoke(count: int) -> tuple[str, Any]:
        together.wait(20)
        with guard.invocation(f"root {count}") as invocation, braintrust.start_span("child"):
            pass
        assert not [row for row in server.open_spans() if row["root_span_id"] == invocation.span.root_span_id]
        assert invocation.delivery is not None
        return invocation.span.root_span_id, invocation.delivery.verdict

    with ThreadPoolExecutor(32) as pool:
        results = list(pool.map(invoke, range(32)))
    assert {verdict.value for _, verdict in results} == {"delivered"}
    assert {row["root_span_id"] for row in server.span_rows()} == {root for root, _ in results}
    assert Counter(row["root_span_id"] for row in server.span_rows()) == {root: 2 for root, _ in results}
    assert len(server.requests) <= 12


def test_a_long_run_is_visible_while_it_goes(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Rows of a running invocation are sent together after the linger."""
    guard = make_guard(linger=0.2)
    with guard.invocation("root"):
        began = time.monotonic()
        span = braintrust.start_span("child")
        server.wait_for(lambda: len(server.span_rows()) == 2, 10)
        assert time.monotonic() - began >= 0.15
        assert {row["span_attributes"]["name"] for row in server.open_spans()} == {"root", "child"}
        assert len(server.requests) == 1
        span.end()
        server.wait_for(lambda: len(server.open_spans()) == 1, 10)
    assert server.open_spans() == []


def test_batches_respect_the_size_limit(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """No request exceeds the size limit, unless a single row does, and all rows arrive."""
    guard = make_guard(linger=60)
    guard.pipeline.backend.max_bytes = 10_000
    sizes = [300, 3000, 700, 9000, 15_000, 100, 40] * 6
    rows = [{**start_row(f"s{n}"), "input": "x" * size} for n, size in enumerate(sizes)]
    guard.pipeline.append([*rows, *(end_row(f"s{n}") for n in range(len(sizes)))])
    assert guard.pipeline.flush(Deadline.after(10))
    for request in server.requests:
        assert len(request.rows) == 1 or len(request.body) <= 10_000 + 100
    assert {row["id"]: len(row["input"]) for row in server.rows()} == {f"id-s{n}": size for n, size in enumerate(sizes)}
    assert server.open_spans() == []


class Traffic:
    """Makes requests fail at random, and records which are in flight at the same time."""

    def __init__(self, seed: int, faults: list[Fault | None], seconds: float) -> None:
        self.most = 0
        self.clashes: list[set[str]] = []
        self._random = random.Random(seed)
        self._faults = faults
        self._seconds = seconds
        self._lock = threading.Lock()
        self._under_way: list[set[str]] = []

    @property
    def fault(self) -> Fault:
        return Fault("traffic", self._injure)

    def _injure(self, exchange: Any) -> Any:
        ids = {row["id"] for row in exchange.rows}
        with self._lock:
            self.clashes += [ids & others for others in self._under_way if ids & others]
            self._under_way.append(ids)
            self.most = max(self.most, len(self._under_way))
            fault, pause = self._random.choice(self._faults), self._random.uniform(0.2, 1) * self._seconds
        exchange.over.wait(pause)
        answer = exchange.answer() if fault is None else fault.injure(exchange)
        with self._lock:
            self._under_way.remove(ids)
        return answer


def log_many(guard: Any, spans: int, times: int) -> None:
    """Log interleaved rows of many spans, numbered in order for each span."""
    for count in range(times):
        for span in range(spans):
            row = start_row(f"s{span}") if count == 0 else {**end_row(f"s{span}"), "metrics": {}}
            guard.pipeline.append([{**row, "metadata": {"n": count, f"n{count}": True}, "input": "x" * 300}])
    guard.pipeline.append([end_row(f"s{span}") for span in range(spans)])


def test_requests_go_out_in_parallel_and_in_order_for_each_span(
    server: BraintrustServer, make_guard: MakeGuard
) -> None:
    """Up to four requests are in flight, no two of them with rows of one span, and each span's rows arrive in order."""
    traffic = Traffic(1, [None], 0.05)
    server.fail("/logs3", traffic.fault)
    guard = make_guard(linger=60)
    guard.pipeline.backend.max_bytes = 3000
    log_many(guard, 40, 4)
    assert guard.pipeline.flush(Deadline.after(30))
    assert 2 <= traffic.most <= 4
    assert traffic.clashes == []
    seen: dict[str, int] = {}
    for request in server.requests:
        for row in request.rows:
            number = row.get("metadata", {}).get("n", seen.get(row["id"], 0))
            assert number >= seen.get(row["id"], 0)
            seen[row["id"]] = number
    assert {row["id"]: row["metadata"]["n"] for row in server.rows()} == {f"id-s{span}": 3 for span in range(40)}


@pytest.mark.parametrize("seed", range(6))
def test_the_last_word_about_a_span_wins_whatever_happens(
    server: BraintrustServer, make_guard: MakeGuard, seed: int
) -> None:
    """With requests that fail at random, some after their rows were stored, every field ends with its last value."""
    # Not so many faults that a row which is alone in its requests seems to be their cause.
    faults = [*[None] * 9, Fault.status(503), Fault.reset(), Fault.ingest_then_drop()]
    traffic = Traffic(seed, faults, 0.02)
    server.fail("/logs3", traffic.fault)
    guard = make_guard(linger=60)
    guard.pipeline.backend.max_bytes = 3000
    log_many(guard, 24, 5)
    assert until(lambda: guard.pipeline.courier.drain(Deadline.after(5), force=True))
    assert traffic.clashes == []
    expected = {"n": 4, **{f"n{count}": True for count in range(5)}}
    assert {row["id"]: row["metadata"] for row in server.rows()} == {f"id-s{span}": expected for span in range(24)}
    assert server.open_spans() == []


def test_an_older_row_never_lands_last(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """When a request fails, its rows are sent again before later ones of their trace, and no other row is."""
    came: dict[tuple[str, int], threading.Event] = defaultdict(threading.Event)
    times: Counter[str] = Counter()
    order: list[str] = []
    # "x1" fails once the rows of the other traces are there; the second time, it waits for anything that overtakes it.
    waits_for = {("x1", 1): [came["a", 1], came["d", 1]]}

    def injure(exchange: Any) -> Any:
        (row,) = exchange.rows
        times[row["input"]] += 1
        key = (row["input"], times[row["input"]])
        came[key].set()
        for event in waits_for.get(key, ()):
            assert event.wait(8)
        if key == ("x1", 2):
            assert not came["x2", 1].wait(0.2)
        answer = Fault.status(401).injure(exchange) if key == ("x1", 1) else exchange.answer()
        order.append(row["input"])
        return answer

    server.fail("/logs3", Fault("in this order", injure))
    guard = make_guard(linger=60)
    guard.pipeline.backend.max_bytes = 1500
    guard.pipeline.append([
        {**start_row(name[0]), "metrics": {"start": 1.0, "end": 2.0}, "input": name, "output": "x" * 1000}
        for name in ("a", "x1", "x2", "d")
    ])
    assert guard.pipeline.courier.drain(Deadline.after(15), force=True)
    assert times == {"a": 1, "x1": 2, "x2": 1, "d": 1}
    assert [name for name in order if name.startswith("x")] == ["x1", "x1", "x2"]
    assert {row["id"]: row["input"] for row in server.rows()} == {"id-a": "a", "id-x": "x2", "id-d": "d"}


def test_rows_that_are_no_spans_pass_byte_for_byte(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Dataset, feedback and delete rows arrive byte for byte as the SDK made them, in order, and not as merges."""
    guard = make_guard(linger=60)
    rows = [
        '{"id":"a" , "dataset_id":"d","expected":1.50e3, "input":"\\u00e4\\ud83d"}',
        f'{{"project_id" : "{PROJECT_ID}","id":"b","log_id":"g","scores":{{"s": 1.0}},  "_is_merge":true}}',
        '{"id":"a","dataset_id":"d","_object_delete":true}',
        f'{{"project_id":"{PROJECT_ID}","log_id":"g","id":"b","span_id":"x","_merge_paths":[["a"]],"_is_merge":false}}',
        '{"id":"a","dataset_id":"d","input":{"again":[ ]}}',
    ]
    with requests.Session() as session:
        guard.start()
        session.mount("http://", PROCESS.sdk.gateway)
        body = '{"rows":[ ' + " , ".join(rows) + '],\n"api_version":2}'
        headers = {"Authorization": f"Bearer {guard.settings.api_key}"}
        assert session.post("http://braintrust/logs3", data=body.encode(), headers=headers).json() == {}
        # Closing it would close the gateway, which is the process's.
        session.adapters.clear()
    guard.pipeline.append([start_row("s"), end_row("s")])
    assert guard.pipeline.flush(Deadline.after(10))
    sent = b"".join(request.body for request in server.requests)
    places = [sent.find(row.encode()) for row in rows]
    assert -1 not in places
    assert places == sorted(places)
    # Two rows of one id, of which the order counts, are never in one request.
    for request in server.requests:
        assert len({row["id"] for row in request.rows}) == len(request.rows)


def test_feedback_of_the_sdk_arrives_as_the_sdk_made_it(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """The SDK's own feedback rows arrive, and merge with the span that they are about."""
    guard = make_guard(linger=60)
    with guard.invocation("root") as invocation:
        current = braintrust.current_span()
        logger = braintrust.init_logger(project_id=PROJECT_ID, set_current=False)
        logger.log_feedback(id=current.id, scores={"thumbs": 1}, comment="good", source="external")
    assert invocation.delivery is not None
    assert invocation.delivery.verdict.value == "delivered"
    (row,) = server.span_rows()
    assert row["scores"] == {"thumbs": 1}
    assert "end" in row["metrics"]
