"""Children that a guarded parent forks later, as servers and task runners do."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import Program, environment, journals, until

from trace_guard.testing import BraintrustServer

FORKING = """
from trace_guard import Guard
guard = Guard(linger=0)
guard.start()

def child(code):
    pid = os.fork()
    if not pid:
        code()
        guard.flush(10)
        os._exit(0)
    os.waitpid(pid, 0)

def is_killed():
    with guard.invocation("killed") as invocation:
        guard.pipeline.flush(invocation.deadline.capped(10))
        os.kill(os.getpid(), signal.SIGKILL)

def is_short():
    with guard.invocation("short"):
        pass

child(is_killed)
say("killed")
listen()
child(is_short)
say("done")
listen()
"""


def test_a_short_lived_child_recovers_what_its_sibling_left(server: BraintrustServer, tmp_path: Path) -> None:
    """A short-lived child closes what an earlier killed one left open, while their parent runs unguarded."""
    with Program(FORKING, environment(server, tmp_path)) as program:
        assert program.hears() == "killed"
        assert [row["span_attributes"]["name"] for row in until(server.open_spans)] == ["killed"]
        program.tell("go on")
        assert program.hears() == "done"
        until(lambda: not server.open_spans())
        outcomes = {
            row["span_attributes"]["name"]: row["metadata"]["trace_guard"]["outcome"] for row in server.span_rows()
        }
        assert outcomes == {"killed": "abandoned", "short": "ok"}


WAITING = """
import braintrust, multiprocessing
from concurrent.futures import ProcessPoolExecutor
from trace_guard import Guard
guard = Guard()
fork = multiprocessing.get_context("fork")

def work(parent, number):
    for part in ("a", "b"):
        with braintrust.start_span(f"{number} {part}", parent=parent):
            pass

def plain(*args):
    pid = os.fork()
    if not pid:
        work(*args)
        os._exit(0)
    return pid

def by_os_fork(jobs):
    for pid in [plain(*job) for job in jobs]:
        os.waitpid(pid, 0)

def by_process(jobs):
    processes = [fork.Process(target=work, args=job) for job in jobs]
    for process in processes: process.start()
    for process in processes: process.join()

def by_pool(jobs):
    with fork.Pool(2) as pool:  # whose end terminates the children
        pool.starmap(work, jobs)

def by_executor(jobs):
    with ProcessPoolExecutor(2, mp_context=fork) as executor:
        list(executor.map(work, *zip(*jobs)))

while asked := listen():
    name, children = asked.split()
    with guard.invocation(name) as invocation:
        parent = braintrust.current_span().export()
        globals()[name]([(parent, number) for number in range(int(children))])
    say(invocation.delivery.verdict.name)
"""


def test_children_that_were_waited_for_arrive_with_the_invocation(server: BraintrustServer, tmp_path: Path) -> None:
    """What joined children logged is delivered when the invocation ends, however they were forked and ended, and
    however many there are."""
    with Program(WAITING, environment(server, tmp_path)) as program:
        expected = 0
        for name, children in (("by_process", 3), ("by_pool", 4), ("by_executor", 4), ("by_os_fork", 45)):
            program.tell(f"{name} {children}")
            assert program.hears() == "DELIVERED"
            expected += 1 + 2 * children
            assert (name, len(server.span_rows()), server.open_spans()) == (name, expected, [])
        program.tell()
        program.ends_well()
    assert journals(tmp_path) == []


@pytest.mark.parametrize("forks", [True, False])
def test_only_a_process_that_forks_looks_for_children(server: BraintrustServer, tmp_path: Path, forks: bool) -> None:
    """The end of an invocation does not list the directory of journals unless the process has forked."""
    code = f"""
    import sys, threading
    from trace_guard import Guard
    guard = Guard()
    with guard.invocation("first"):
        if {forks} and not os.fork():
            os._exit(0)
    listed = []
    def note(event, args):
        if event == "os.listdir" and threading.current_thread() is threading.main_thread():
            listed.append(args[0])
    sys.addaudithook(note)
    with guard.invocation("second"):
        pass
    say(any(str(path).endswith("journals") for path in listed))
    """
    with Program(code, environment(server, tmp_path)) as program:
        assert program.hears() == str(forks)
        program.ends_well()
