"""A shortage of descriptors or threads costs no more than a backend that is down, and rows arrive after it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Program, environment, pending_in

from trace_guard.testing import BraintrustServer

BUDGET = 0.5
PRELUDE = """
    import resource, threading
    import braintrust
    from trace_guard import Guard
    guard = Guard(flush_timeout=0.5)
    held, plain = [], resource.getrlimit(resource.RLIMIT_NOFILE)
    def invoke(name):
        began = time.monotonic()
        with guard.invocation(name) as invocation:
            pass
        verdict = invocation.delivery.verdict.value if invocation.delivery else "none"
        return verdict, time.monotonic() - began
    def take_descriptors():
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, plain[1]))
        try:
            while True:
                held.append(os.open("/dev/null", os.O_RDONLY))
        except OSError:
            pass
    def give_descriptors():
        while held:
            os.close(held.pop())
    def take_threads():
        threading.stack_size(1 << 46)  # more than there is, so that each start fails
    def give_threads():
        threading.stack_size(0)
"""


def test_no_descriptors(server: BraintrustServer, directory: Path) -> None:
    """Without free descriptors the first invocations wait at most their budget and later ones not at all. Their rows
    are
    on disk, and arrive once there are descriptors."""
    with Program(PRELUDE + """
    say(invoke("before")[0])
    guard.pipeline.backend.close()
    take_descriptors()
    waits = []
    for count in range(8):
        verdict, seconds = invoke(f"short {count}")
        waits.append(seconds)
        assert verdict == "spooled", verdict
    give_descriptors()
    say(max(waits), max(waits[3:]))
    listen()
    """, environment(server, directory)) as program:
        program.expects("delivered")
        longest, later = map(float, program.hears().split())
        assert (longest < BUDGET + 0.5, later < 0.2) == (True, True), (longest, later)
        server.wait_for(lambda: len(server.span_rows()) == 9 and not server.open_spans(), 15)
        program.tell("end")
        assert program.wait() == 0
    assert pending_in(directory) == []


@pytest.mark.parametrize("holds", ["the lock", "the connection"])
def test_descriptors_for_a_part_of_the_way(server: BraintrustServer, directory: Path, holds: str) -> None:
    """The same holds if there are descriptors for the journal but none for a connection, or none at all."""
    spare = 0 if holds == "the lock" else 2
    with Program(PRELUDE + f"""
    invoke("before")
    guard.pipeline.backend.close()
    take_descriptors()
    for _ in range({spare}):
        os.close(held.pop())
    waits = [invoke("short")[1] for _ in range(6)]
    give_descriptors()
    say(max(waits), max(waits[3:]))
    listen()
    """, environment(server, directory)) as program:
        longest, later = map(float, program.hears().split())
        assert (longest < BUDGET + 0.5, later < 0.2) == (True, True), (longest, later)
        server.wait_for(lambda: len(server.span_rows()) == 7 and not server.open_spans(), 15)


@pytest.mark.parametrize("when", ["at first", "later"])
def test_no_threads(server: BraintrustServer, directory: Path, when: str) -> None:
    """If no thread can be started, no invocation waits longer than its budget. Rows arrive once threads can start."""
    warm = "" if when == "at first" else 'invoke("before")'
    with Program(PRELUDE + f"""
    {warm}
    take_threads()
    waits = [invoke(f"short {{count}}")[1] for count in range(6)]
    give_threads()
    say(max(waits), max(waits[3:]))
    while listen() == "invoke":
        say(invoke("after")[0])
    """, environment(server, directory)) as program:
        longest, later = map(float, program.hears().split())
        assert (longest < BUDGET + 0.5, later < 0.2) == (True, True), (longest, later)
        program.tell("invoke")
        program.expects("delivered")
        server.wait_for(lambda: bool(server.span_rows()) and not server.open_spans(), 15)
        assert when == "at first" or len(server.span_rows()) == 8
