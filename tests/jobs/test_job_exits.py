"""The exit of a job: the process ends as without a guard, and every span is closed."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from support import Program, environment

from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

# Each main function runs in a forked child, so that a whole interpreter ends. All run bare first, before modules are
# loaded that slow an interpreter's end down, and guarded after that.
PROGRAM = """
    import asyncio, contextlib, json

    def step(name):
        return contextlib.nullcontext()

    def returns():
        with step("a"):
            pass

    def exits_without_a_status():
        sys.exit()

    def exits_with_0():
        with step("a"):
            sys.exit(0)

    def exits_with_3():
        sys.exit(3)

    def exits_with_what_is_too_large():
        sys.exit(2**70)

    def exits_with_42_in_a_step():
        with step("a"):
            sys.exit(42)

    def exits_with_words():
        sys.exit("no such file")

    def raises():
        with step("a"):
            raise ValueError("no such item")

    def is_terminated():
        with step("a"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    def loses_its_terminal():
        with step("a"):
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(60)

    def is_interrupted():
        with step("a"):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)

    def is_interrupted_where_that_kills():
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        guarded_anew(is_interrupted)

    def is_interrupted_in_a_loop():
        async def work():
            with step("a"):
                os.kill(os.getpid(), signal.SIGINT)
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    sys.exit(9)
        asyncio.run(work())

    def exits_in_a_handler_of_its_own():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        with step("a"):
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)

    def had_a_handler_that_exits():
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(6))
        guarded_anew(is_terminated)

    def winds_down():
        stopped = []
        signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
        while not stopped:
            with step("a"):
                os.kill(os.getpid(), signal.SIGTERM)

    def ignores_it():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.kill(os.getpid(), signal.SIGTERM)

    def winds_down_by_way_of_what_was_there():
        before, stopped = signal.getsignal(signal.SIGTERM), []
        def stop(number, frame):
            stopped.append(number)
            if callable(before):
                before(number, frame)
        signal.signal(signal.SIGTERM, stop)
        while not stopped:
            with step("a"):
                os.kill(os.getpid(), signal.SIGTERM)

    def puts_back_what_was_there():
        before = signal.getsignal(signal.SIGTERM)
        def once_more(number, frame):
            signal.signal(number, before)
            os.kill(os.getpid(), number)
        signal.signal(signal.SIGTERM, once_more)
        is_terminated()

    def goes_on_after_an_interrupt():
        try:
            is_interrupted()
        except KeyboardInterrupt:
            pass
        with step("a"):
            sys.exit(3)

    def overlaps_with_another():
        async def job(name, before, after):
            await before.wait()
            async with default_guard().job(name):
                after.set()
                await asyncio.sleep(0)
                await asyncio.Event().wait()
        async def work():
            events = [asyncio.Event() for _ in range(3)]
            events[0].set()
            tasks = [asyncio.create_task(job("first", *events[:2])), asyncio.create_task(job("second", *events[1:]))]
            await events[2].wait()
            tasks[0].cancel()
            await asyncio.wait(tasks[:1])
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.sleep(60)
        if guard_job is None:
            is_terminated()
        asyncio.run(work())

    def is_killed():
        with step("a"):
            os.kill(os.getpid(), signal.SIGKILL)

    def dies_in_native_code():
        with step("a"):
            os._exit(7)

    def guarded_anew(main):
        return main() if guard_job is None else guard_job(main, name=name)()

    INNER = (is_interrupted_where_that_kills, had_a_handler_that_exits, overlaps_with_another)
    NAMES = json.loads(listen())

    def end_of(main):
        child = os.fork()
        if child == 0:
            if guard_job is not None and main not in INNER:
                main = guard_job(main, name=name)
            main()
            sys.exit()
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    guard_job = None
    for name in NAMES:
        say(name, end_of(globals()[name]))
    from trace_guard import default_guard, guard_job, recover, step
    guard_job(lambda: None, name="before all")()  # loads what children would each load for themselves
    for name in NAMES:
        say(name, end_of(globals()[name]))
    recover()
    say("recovered")
"""


class End(NamedTuple):
    """The expected end of a main function: the exit status and the root's metadata."""

    status: int
    outcome: str
    job: dict[str, Any]
    steps: dict[str, int] | None = None


DONE, FAILED = {"done": 1, "failed": 0, "skipped": 0}, {"done": 0, "failed": 1, "skipped": 0}
ENDS = {
    "returns": End(0, "ok", {}, DONE),
    "exits_without_a_status": End(0, "ok", {"exit_code": 0}),
    "exits_with_0": End(0, "ok", {"exit_code": 0}, DONE),
    "exits_with_3": End(3, "error", {"exit_code": 3}),
    "exits_with_what_is_too_large": End(255, "error", {"exit_code": 255}),
    "exits_with_42_in_a_step": End(42, "error", {"exit_code": 42}, FAILED),
    "exits_with_words": End(1, "error", {"exit_code": 1}),
    "raises": End(1, "error", {}, FAILED),
    "is_terminated": End(-signal.SIGTERM, "terminated", {}),
    "loses_its_terminal": End(-signal.SIGHUP, "terminated", {}),
    "is_interrupted": End(-signal.SIGINT, "terminated", {"signal": "SIGINT"}, FAILED),
    "is_interrupted_where_that_kills": End(-signal.SIGINT, "terminated", {}),
    # Before Python 3.11, the KeyboardInterrupt itself leaves the loop.
    "is_interrupted_in_a_loop": End(
        9, "terminated", {"signal": "SIGINT", "exit_code": 9}, FAILED,
    ) if sys.version_info >= (3, 11) else End(-signal.SIGINT, "terminated", {"signal": "SIGINT"}, FAILED),
    "exits_in_a_handler_of_its_own": End(5, "terminated", {"signal": "SIGTERM", "exit_code": 5}, FAILED),
    "had_a_handler_that_exits": End(6, "terminated", {"signal": "SIGTERM", "exit_code": 6}, FAILED),
    "winds_down": End(0, "ok", {}, DONE),
    "winds_down_by_way_of_what_was_there": End(0, "ok", {}, DONE),
    "puts_back_what_was_there": End(-signal.SIGTERM, "terminated", {}),
    "goes_on_after_an_interrupt": End(
        3, "error", {"signal": "SIGINT", "exit_code": 3}, {"done": 0, "failed": 2, "skipped": 0},
    ),
    "ignores_it": End(0, "ok", {}),
    "is_killed": End(-signal.SIGKILL, "abandoned", {}),
    "dies_in_native_code": End(7, "abandoned", {}),
}


# The last two are killed before the SDK hands over the start row of their step, so that step is lost.
WITHOUT_STEP = (
    "exits_without_a_status", "exits_with_3", "exits_with_what_is_too_large", "exits_with_words",
    "ignores_it", "is_killed", "dies_in_native_code",
)


OVERLAPS = "overlaps_with_another"


class Seen(NamedTuple):
    """The exit statuses by main function, bare and guarded, and the server with their traces."""

    statuses: dict[str, list[int]]
    rows: list[Row]
    still_open: list[Row]


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seen]:
    with BraintrustServer() as server:
        variables = environment(server, tmp_path_factory.mktemp("exits"))
        with Program(PROGRAM, variables) as program:
            program.tell(json.dumps([*ENDS, OVERLAPS]))
            statuses: dict[str, list[int]] = {}
            for _ in range(2 * len(ENDS) + 2):
                name, status = program.hears(60).split()
                statuses.setdefault(name, []).append(int(status))
            program.expects("recovered")
            program.ends_well()
        yield Seen(statuses, server.span_rows(), server.open_spans())


@pytest.mark.parametrize("name", ENDS)
def test_the_status_is_the_same(seen: Seen, name: str) -> None:
    """A process ends with the same exit status or signal as without a guard."""
    assert seen.statuses[name] == [ENDS[name].status, ENDS[name].status]


@pytest.mark.parametrize("name", ENDS)
def test_the_root_says_how_it_ended(seen: Seen, name: str) -> None:
    """The root of a job has the outcome, the exit code, the signal and the step counts."""
    (root,) = [row for row in seen.rows if row["span_attributes"]["name"] == name]
    expected = ENDS[name]
    assert root["metadata"]["trace_guard"]["outcome"] == expected.outcome
    job = {key: value for key, value in root["metadata"]["job"].items() if key not in ("platform", "steps")}
    if name.startswith("winds_down"):
        job.pop("signal", None)  # it may end before the listening thread records the signal
    assert job == expected.job
    assert root["metadata"]["job"].get("steps") == expected.steps
    assert ("error" in root) == (expected.outcome != "ok")


def test_a_signal_ends_a_job_that_overlapped_an_earlier_one(seen: Seen) -> None:
    """A signal ends the running job even if the job started while another one, now ended, was running."""
    assert seen.statuses[OVERLAPS] == [-signal.SIGTERM, -signal.SIGTERM]
    about = {row["span_attributes"]["name"]: row["metadata"]["trace_guard"] for row in seen.rows if not
             row["span_parents"]}
    assert about["first"]["outcome"] == "error"  # it was cancelled
    assert (about["second"]["outcome"], about["second"]["reason"]) == ("terminated", "signal")


def test_no_span_is_open(seen: Seen) -> None:
    """However a job ends, no span stays open, and no span in the journal is missing."""
    assert seen.still_open == []
    names = {row["root_span_id"]: row["span_attributes"]["name"] for row in seen.rows if row["span_parents"] is None}
    with_step = {names[row["root_span_id"]] for row in seen.rows if row["span_attributes"]["name"] == "a"}
    assert set(ENDS) - set(WITHOUT_STEP) <= with_step
