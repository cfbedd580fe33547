"""A server that is down, slow or gone: the handler's result comes in time, and all rows arrive later, unchanged."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import braintrust
import pytest
from fixtures import MakeGuard
from support import (
    PROJECT_ID,
    Program,
    environment,
    journals,
    normal,
    pending_in,
    settings_for,
    traces_in,
    until,
)

from trace_guard import Deadline, Delivery, recover
from trace_guard.delivery.dead_letters import read_dead_letters
from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer, Fault

HANDLER = """
    import braintrust
    from trace_guard import Deadline, Guard
    guard = Guard()
    def agent(question):
        with braintrust.start_span("plan", input=question) as plan:
            plan.log(output=["look", "answer"], metadata={"model": "m"})
            with plan.start_span("tool", type="tool") as tool:
                tool.log(output={"found": 3}, metrics={"tokens": 12})
        try:
            with braintrust.start_span("failing", tags=None):
                raise LookupError("nothing")
        except LookupError:
            pass
        braintrust.start_span("left open").log(input="x" * 3000)
        braintrust.flush()
        return {"answer": 42}
    while listen() == "invoke":
        began = time.monotonic()
        with guard.invocation("agent", deadline=Deadline.after(3), input={"q": "why"}, metadata={"m": 1}) as invocation:
            result = agent("why")
            invocation.span.log(scores={"good": 1}, tags=["t"])
            invocation.set_output(result)
        seconds = time.monotonic() - began
        say(result, invocation.delivery.verdict.value, seconds)
    guard.close()
    say("closed")
"""


def invoke(program: Program) -> tuple[str, float]:
    """Invoke the program's handler and check its result; return the verdict and the seconds that it took."""
    program.tell("invoke")
    result, verdict, seconds = program.hears().rsplit(" ", 2)
    assert result == "{'answer': 42}"
    return verdict, float(seconds)


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    """The rows of one invocation with a server that works."""
    directory = tmp_path_factory.mktemp("healthy")
    with BraintrustServer() as server, Program(HANDLER, environment(server, directory)) as program:
        assert invoke(program)[0] == "delivered"
        program.tell("end")
        program.expects("closed")
        program.ends_well()
        rows = normal(server.span_rows())
        assert [row["span_id"] for row in rows] == ["agent", "failing", "left open", "plan", "tool"]
        return rows


def refused(server: BraintrustServer) -> None:
    server.refuse_connections()


def fails_with(fault: Fault) -> Callable[[BraintrustServer], None]:
    return lambda server: server.fail("*", fault)


OUTAGES = {
    "black hole": fails_with(Fault.black_hole()),
    "refused": refused,
    "reset": fails_with(Fault.reset()),
    "500": fails_with(Fault.status(500)),
    "slow": fails_with(Fault.slow(4.0)),
    "ingest, then drop": fails_with(Fault.ingest_then_drop()),
    "429": fails_with(Fault.status(429, retry_after=1)),
    "401": fails_with(Fault.status(401)),
}


@pytest.fixture(params=OUTAGES.values(), ids=OUTAGES)
def outage(request: pytest.FixtureRequest, server: BraintrustServer) -> Iterator[Callable[[], None]]:
    """Breaks the server, and repairs it when it is called."""
    request.param(server)

    def over() -> None:
        server.heal()
        server.accept_connections()

    yield over
    over()


def test_an_outage_costs_neither_time_nor_rows(
    server: BraintrustServer, directory: Path, outage: Callable[[], None], healthy: list[Row]
) -> None:
    """With three seconds left and a broken server, the result comes in time. Once the server works, the next
    invocations
    deliver all rows as a healthy run does."""
    with Program(HANDLER, environment(server, directory)) as program:
        verdict, seconds = invoke(program)
        assert (verdict, seconds < 2.6) == ("spooled", True)
        outage()

        def all_there() -> bool:
            invoke(program)
            return not pending_in(directory)

        until(all_there)
        program.tell("end")
        program.expects("closed")
        program.ends_well()
    assert [normal(trace) for trace in traces_in(server.span_rows())] == [healthy] * len(traces_in(server.span_rows()))
    assert list(read_dead_letters(directory)) == []
    assert journals(directory) == []


def test_another_process_brings_the_rows_of_an_outage(
    server: BraintrustServer, directory: Path, outage: Callable[[], None], healthy: list[Row]
) -> None:
    """Rows that an outage kept back are delivered by ``recover`` in another process after the first was killed.
    Delivering them twice changes nothing."""
    with Program(HANDLER, environment(server, directory)) as program:
        verdict, seconds = invoke(program)
        assert (verdict, seconds < 2.6) == ("spooled", True)
        kept = {file.name: file.read_bytes() for file in journals(directory)[0].iterdir() if file.name != "acked"}
        program.kill()
    outage()
    found = recover(settings_for(server, directory), timeout=10)
    assert (found.journals, found.closed_spans, found.pending_rows, found.error) == (1, 0, 0, None)
    assert normal(server.span_rows()) == healthy
    assert journals(directory) == []
    # The same journal once more, as if it had been restored from a backup.
    before = server.rows()
    settings, again = settings_for(server, directory), directory / "journals" / "again"
    again.mkdir(mode=0o700)
    for name, content in {**kept, "header": json.dumps({"format": 1, **settings.destination}).encode()}.items():
        (again / name).write_bytes(content)
    assert recover(settings, timeout=10).delivered_rows > 0
    assert server.rows() == before


def test_names_are_resolved_when_the_server_is_there(server: BraintrustServer, directory: Path) -> None:
    """If the server is down when a project is known only by name, nothing waits for it. Once it is up, every row is
    delivered with the project's id."""
    env = environment(server, directory, TRACE_GUARD_PROJECT_ID="", TRACE_GUARD_PROJECT="by name")
    server.refuse_connections()
    with Program(HANDLER, env) as program:
        verdict, seconds = invoke(program)
        assert (verdict, seconds < 2.6) == ("spooled", True)
        assert {row["project_id"] for row in pending_in(directory)} == {"trace-guard:project:by name"}
        server.accept_connections()
        until(lambda: invoke(program)[0] == "delivered" and not pending_in(directory))
        project = server.add_project("by name")
        assert {row["project_id"] for row in server.span_rows()} == {project}
        assert server.open_spans() == []
        program.tell("end")
        program.expects("closed")
        program.ends_well()
    # The next process knows the id from the first row on.
    with Program(HANDLER, env) as program:
        server.refuse_connections()
        invoke(program)
        assert {row["project_id"] for row in pending_in(directory)} == {project}


def test_a_dead_process_s_names_are_resolved_by_another(server: BraintrustServer, directory: Path) -> None:
    """Rows that were written before the project's id was known get it from the process that recovers them."""
    env = environment(server, directory, TRACE_GUARD_PROJECT_ID="", TRACE_GUARD_PROJECT="by name")
    server.refuse_connections()
    with Program(HANDLER, env) as program:
        invoke(program)
    server.accept_connections()
    settings = settings_for(server, directory, project="another name")
    assert recover(settings, timeout=10).error is None
    assert {row["project_id"] for row in server.span_rows()} == {server.add_project("by name")}
    assert {row["project_id"] for row in server.span_rows()} != {PROJECT_ID}
    assert server.open_spans() == []


def test_a_dead_backend_costs_nothing_once_it_is_known(
    server: BraintrustServer, make_guard: MakeGuard, directory: Path
) -> None:
    """After three failed deliveries no invocation waits for the backend. Once it works again, everything is delivered
    in the background."""
    guard = make_guard(linger=60)
    server.refuse_connections()
    waits = []
    for count in range(20):
        with guard.invocation(f"root {count}") as invocation:
            pass
        assert invocation.delivery is not None
        assert invocation.delivery.verdict is Delivery.SPOOLED
        waits.append(invocation.delivery.seconds)
    assert max(waits[3:]) < 0.05, waits
    assert sum(waits[:3]) < 4.0, waits
    server.accept_connections()
    server.wait_for(lambda: len(server.span_rows()) == 20 and not server.open_spans(), 15)
    with guard.invocation("after") as invocation:
        pass
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is Delivery.DELIVERED
    assert pending_in(directory) == []


def test_a_probe_of_a_dead_backend_is_short(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """While a backend that never answers is known to be down, an invocation that probes it waits a quarter of a second
    at most, and any other does not wait."""
    guard = make_guard(linger=60, flush_timeout=0.6)
    server.fail("/logs3", Fault.black_hole())
    waits = []
    limit = time.monotonic() + 6
    while time.monotonic() < limit:
        with guard.invocation("root") as invocation:
            pass
        assert invocation.delivery is not None
        waits.append(invocation.delivery.seconds)
        time.sleep(0.1)
    assert all(0.5 < wait < 1.0 for wait in waits[:3]), waits
    probes = [wait for wait in waits[3:] if wait > 0.05]
    assert 1 <= len(probes) <= 6, waits
    assert max(probes) < 0.5, waits


def test_the_program_s_random_numbers_stay_the_same(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """A program that has seeded Python's random numbers gets the same ones, whatever the guard repeats or isolates."""
    server.fail("/logs3", Fault.status(500))
    guard = make_guard(linger=60)
    random.seed(1)
    before = random.getstate()
    with guard.invocation("root", input="a question"), braintrust.start_span("step"):
        pass
    assert not guard.flush(1)
    assert len(server.requests_to("/logs3")) > 1
    assert random.getstate() == before


def test_what_is_delivered_twice_is_there_once(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Rows that were stored although the connection broke are sent again, and change nothing."""
    server.fail("/logs3", Fault.ingest_then_drop(), times=1)
    guard = make_guard(linger=60)
    with guard.invocation("root") as invocation:
        for count in range(5):
            braintrust.start_span(f"child {count}").log(tags=None, scores={"s": 0.5}, metadata={"list": [1]})
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is Delivery.DELIVERED
    first, second = server.requests_to("/logs3")
    assert first.body == second.body
    assert len(server.span_rows()) == 6
    assert server.open_spans() == []


STALE = """
    from trace_guard import FlushPolicy, Guard
    guard = Guard(linger=60, flush_timeout=10)
    after = Guard(linger=60, flush=FlushPolicy.AFTER_RESPONSE)
    while (word := listen()) in ("before", "after"):
        guard.pipeline.courier.thawed()
        began = time.monotonic()
        with (guard if word == "before" else after).invocation(word) as invocation:
            pass
        waited = "at once" if time.monotonic() - began < 5.0 else "late"
        say(invocation.delivery.verdict.value, waited, guard.pipeline.courier.last_error)
"""


def test_a_connection_that_was_closed_during_a_freeze_is_no_failure(server: BraintrustServer, directory: Path) -> None:
    """The server closes the connection while the process is stopped: the next delivery connects anew, at once."""
    with Program(STALE, environment(server, directory)) as program:
        program.tell("before")
        program.expects("delivered", "at once", None)
        for _ in range(3):
            program.stop()
            server.refuse_connections()
            server.accept_connections()
            program.go_on()
            program.tell("before")
            program.expects("delivered", "at once", None)
    assert len(server.span_rows()) == 4
    assert server.open_spans() == []


def test_a_request_that_was_under_way_during_a_freeze_holds_up_nothing(
    server: BraintrustServer, directory: Path
) -> None:
    """A request that is never answered because of a freeze is abandoned at the next invocation, and the rows of both
    arrive at once."""
    server.fail("/logs3", Fault.black_hole(), times=1)
    with Program(STALE, environment(server, directory)) as program:
        program.tell("after")
        program.expects("deferred", "at once", None)
        server.wait_for(lambda: len(server.requests) == 1, 10)
        program.stop()
        program.go_on()
        program.tell("before")
        program.expects("delivered", "at once", None)
    assert sorted(row["span_attributes"]["name"] for row in server.span_rows()) == ["after", "before"]
    assert server.open_spans() == []


def test_the_next_process_delivers_what_a_normal_exit_could_not(server: BraintrustServer, directory: Path) -> None:
    """A process that ends while the backend is down leaves its rows on disk. The next process delivers them with its
    own first rows, in one request."""
    server.refuse_connections()
    with Program(HANDLER, environment(server, directory, TRACE_GUARD_EXIT_TIMEOUT="0.2")) as program:
        invoke(program)
        program.tell("end")
        program.expects("closed")
        program.ends_well()
    assert len(journals(directory)) == 1
    server.accept_connections()
    with Program(HANDLER, environment(server, directory)) as program:
        assert invoke(program)[0] == "delivered"
        assert len(server.requests) == 1
        assert len(traces_in(server.span_rows())) == 2
        assert server.open_spans() == []
        until(lambda: len(journals(directory)) == 1)


def test_a_user_s_flush_waits_for_the_backend(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """Outside of an invocation the SDK's own ``flush()`` returns once the rows have arrived; inside of one it does not
    wait."""
    guard = make_guard(linger=60, exit_timeout=10.0)
    guard.start()
    server.latency = 0.1
    logger = braintrust.init_logger(project_id=PROJECT_ID, set_current=False)
    logger.start_span("plain").end()
    logger.flush()
    assert [row["span_attributes"]["name"] for row in server.span_rows()] == ["plain"]
    with guard.invocation("root"):
        braintrust.start_span("child").end()
        braintrust.flush()
        assert len(server.requests_to("/logs3")) == 1
    assert len(server.span_rows()) == 3


def test_a_slow_server_does_not_hold_up_what_comes_after_it(server: BraintrustServer, make_guard: MakeGuard) -> None:
    """An invocation whose delivery takes longer than its budget is SPOOLED, and its rows arrive later, once."""
    guard = make_guard(linger=60, flush_timeout=0.2)
    server.fail("/logs3", Fault.slow(0.6), times=1)
    with guard.invocation("slow") as invocation:
        pass
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is Delivery.SPOOLED
    server.wait_for(lambda: len(server.span_rows()) == 1 and not server.open_spans(), 10)
    with guard.invocation("next") as invocation:
        pass
    assert invocation.delivery is not None
    until(lambda: guard.pipeline.flush(Deadline.after(5)))
    assert len(server.requests) == 2
    assert server.open_spans() == []

