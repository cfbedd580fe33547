"""A program that logs in repeatedly, as a program that serves several customers does."""

from __future__ import annotations

from pathlib import Path

import braintrust
import pytest
from braintrust.logger import _internal_reset_global_state
from support import Program, environment, journals

from trace_guard import Guard, Settings
from trace_guard.backends.memory import MemoryBackend
from trace_guard.testing import BraintrustServer, Fault

PROGRAM = """
    import threading, braintrust, trace_guard.runtime.logins
    from trace_guard import Deadline, Guard
    guard = Guard().start()

    def use():
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    def serve(customer):
        with guard.invocation("root", input=customer, deadline=Deadline.after(20)) as invocation:
            braintrust.login(api_key=customer, force_login=True)  # for the next one
        return invocation.delivery.verdict.value
"""


def senders(server: BraintrustServer) -> dict[str, str]:
    """The key that delivered the root of each input."""
    return {
        str(row["input"]): str(request.authorization).removeprefix("Bearer ")
        for request in server.requests_to("/logs3") for row in request.rows if row.get("input")
    }


@pytest.mark.parametrize("customers", [2, 12])
def test_logins_cost_what_a_few_do(server: BraintrustServer, directory: Path, customers: int) -> None:
    """Many logins with many keys use the threads, connections and files of a few, and each trace is delivered with the
    key of its start."""
    with Program(f"""{PROGRAM}
    serve("k0")
    before = use()
    for turn in range(1, 40):
        assert serve(f"k{{turn % {customers}}}") == "delivered"
    after = use()
    say(after[0] - before[0] <= 2 * 4, after[1] - before[1] <= 5 * 4, *before, *after)
    guard.close(10)
    """, environment(server, directory, TRACE_GUARD_LINGER="60")) as program:
        assert program.hears().split()[:2] == ["True", "True"]
        program.ends_well()
    assert len(server.span_rows()) == 40
    assert server.open_spans() == []
    expected = {f"k{number}": f"k{(number - 1) % customers}" for number in range(customers)}
    assert senders(server) == expected
    assert journals(directory) == []


def test_alternating_logins_reuse_their_destinations(server: BraintrustServer, directory: Path) -> None:
    """Alternating logins have one journal for each key and no more connections than keys."""
    with Program(f"""{PROGRAM}
    made = set()
    for turn in range(20):
        serve(f"k{{turn % 2}}")
        made |= {{guard.pipeline.journal().path}}
    say(len(made))
    guard.close(10)
    """, environment(server, directory, BRAINTRUST_API_KEY="k1")) as program:
        program.expects(2)
        program.ends_well()
    assert len(server.span_rows()) == 20


def test_an_earlier_login_is_released(server: BraintrustServer, directory: Path) -> None:
    """The threads, connections and files of an earlier login are released once its rows are sent."""
    with Program(f"""{PROGRAM}
    trace_guard.runtime.logins._IDLE_SECONDS = 0.0
    serve("sk-planted-another")
    before = use()
    serve("sk-planted-another")
    serve("sk-planted-another")
    say(all(now <= then for now, then in zip(use(), before)))
    listen()
    guard.close(10)
    """, environment(server, directory)) as program:
        program.expects(True)
        assert len(journals(directory)) == 1
        program.tell()
        program.ends_well()
    assert len(server.span_rows()) == 3


def test_what_could_not_be_delivered_waits_on_disk(server: BraintrustServer, directory: Path) -> None:
    """During an outage many logins cost no more than a few, and each login's rows are delivered later with its own
    key."""
    server.fail("/logs3", Fault.status(503))
    with Program(f"""{PROGRAM}
    serve("k0")
    before = use()
    for turn in range(1, 12):
        serve(f"k{{turn}}")
    after = use()
    say(after[0] - before[0] <= 2 * 4, after[1] - before[1] <= 5 * 4, *before, *after)
    listen()
    for turn in range(12):
        braintrust.login(api_key=f"k{{turn}}", force_login=True)
        with guard.invocation("later"):
            pass
        guard.pipeline.neighbours.recover(Deadline.after(10))
        say(guard.flush(20))
    guard.close(10)
    """, environment(
        server, directory, BRAINTRUST_API_KEY="k11", TRACE_GUARD_FLUSH_TIMEOUT="0.05", TRACE_GUARD_EXIT_TIMEOUT="5",
    )) as program:
        assert program.hears().split()[:2] == ["True", "True"]
        server.heal()
        program.tell()
        for _ in range(12):
            program.expects(True)
        program.ends_well()
    assert server.open_spans() == []
    assert senders(server) == {f"k{number}": f"k{(number - 1) % 12}" for number in range(12)}
    assert journals(directory) == []


def test_the_first_invocations_may_begin_at_once(server: BraintrustServer, directory: Path) -> None:
    """Threads that open the first invocations of a process at the same moment each have a root that is delivered."""
    with Program("""
    import os, sys, threading
    from pathlib import Path
    from trace_guard import Guard, Settings

    sys.setswitchinterval(1e-6)
    settings = dict(api_key=os.environ.pop("BRAINTRUST_API_KEY"), app_url=os.environ.pop("BRAINTRUST_APP_URL"))

    def work(guard, barrier, number):
        barrier.wait()
        with guard.invocation("root", input=number):
            pass

    for turn in range(12):
        guard = Guard(**settings, dir=Path(os.environ["TRACE_GUARD_DIR"]) / str(turn))
        barrier = threading.Barrier(4)
        threads = [threading.Thread(target=work, args=(guard, barrier, f"{turn}.{n}"), daemon=True) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert not any(thread.is_alive() for thread in threads)
        guard.close(10)
    say("done")
    """, environment(server, directory)) as program:
        assert program.hears(60) == "done"
        program.ends_well()
    roots = {row["input"] for row in server.span_rows()}
    assert roots == {f"{turn}.{number}" for turn in range(12) for number in range(4)}
    assert server.open_spans() == []


@pytest.mark.parametrize("logger", ["the user's", "the guard's"])
def test_the_global_state_of_the_sdk_may_be_reset(
    directory: Path, monkeypatch: pytest.MonkeyPatch, logger: str
) -> None:
    """A guard traces on after the SDK's global state was reset, as test suites do between tests."""
    monkeypatch.delenv("BRAINTRUST_API_KEY", raising=False)
    backend = MemoryBackend()
    guard = Guard(Settings.from_env({}, dir=directory), backend=backend)
    if logger == "the user's":
        braintrust.init_logger(project="support")
    for name in ("before", "after"):
        with guard.invocation(name):
            braintrust.start_span(f"child {name}").end()
        _internal_reset_global_state()
    guard.close(timeout=1)
    assert [row["span_attributes"]["name"] for row in backend.rows()] == [
        "before", "child before", "after", "child after",
    ]
