"""Edge cases of an invocation: late spans, other invocations, interrupts, busy loops."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import braintrust
import pytest
from azure_host.installation import MISSING, azure_python
from contract.suite import outcomes, parents
from fixtures import MakeGuard
from support import Program, delivered, environment, journals, rows_in, until

from trace_guard import Deadline, Delivery, Guard
from trace_guard.journal.reader import read_entries
from trace_guard.rows import Row, has_ended
from trace_guard.testing import BraintrustServer, Fault
from trace_guard.testing.steps import INVOCATION, replaced


def spans(server: BraintrustServer) -> dict[str, Row]:
    return {row["span_attributes"]["name"]: row for row in server.span_rows()}


def test_open_spans_are_closed_innermost_first(guard: Guard, server: BraintrustServer, directory: Path) -> None:
    """Open spans are closed from the innermost to the outermost, the root last."""
    with guard.invocation("root"):
        outer = braintrust.start_span("outer")
        outer.start_span("inner").start_span("innermost")
        braintrust.start_span("beside")
    names = {row["id"]: row["span_attributes"]["name"] for row in server.span_rows()}
    ends = [names[row["id"]] for path in journals(directory) for row in rows_in(read_entries(path)) if has_ended(row)]
    assert ends.pop() == "root"
    assert ends.index("innermost") < ends.index("inner") < ends.index("outer")
    assert sorted(ends) == ["beside", "inner", "innermost", "outer"]


def test_a_late_span_is_closed_on_arrival(guard: Guard, server: BraintrustServer) -> None:
    """A span that a thread starts after its invocation ended is closed on arrival and marked late; if the thread ends
    it later, that end is kept and the mark is lifted."""
    over, begun, go_on = threading.Event(), threading.Event(), threading.Event()

    def outlives(here: Any) -> None:
        over.wait(10)
        span = here.start_span("late")
        braintrust.flush()
        begun.set()
        go_on.wait(10)
        span.log(output="after all")
        span.end(end_time=time.time() + 100)

    with guard.invocation("root"):
        thread = threading.Thread(target=outlives, args=(braintrust.current_span(),))
        thread.start()
    over.set()
    assert begun.wait(10)
    server.wait_for(lambda: "late" in spans(server), timeout=10)
    late = {"outcome": "ok", "closed_by": "guard", "reason": "late"}
    assert outcomes(server.span_rows()) == {"root": {"outcome": "ok"}, "late": late}
    assert parents(server.span_rows()) == {"root": None, "late": "root"}
    go_on.set()
    thread.join()
    assert guard.flush(10)
    row = spans(server)["late"]
    assert (row["output"], "metadata" in row) == ("after all", False)
    assert row["metrics"]["end"] > time.time() + 50


@pytest.mark.parametrize("shared", [False, True], ids=["own traces", "one trace"])
def test_only_its_own_spans_are_closed(guard: Guard, server: BraintrustServer, shared: bool) -> None:
    """Of two concurrent invocations in threads, each closes only its own descendants, even below one shared parent."""
    parent = None
    if shared:
        with guard.invocation("parent") as invocation:
            parent = invocation.span.export()
    one_is_over = threading.Event()
    both_began = threading.Barrier(2, timeout=10)

    def work(name: str) -> None:
        with guard.invocation(name, parent=parent):
            braintrust.start_span(f"left by {name}")
            both_began.wait()
            if name == "two":
                assert one_is_over.wait(10)
        if name == "one":
            one_is_over.set()

    with ThreadPoolExecutor() as pool:
        second = pool.submit(work, "two")
        pool.submit(work, "one").result(10)
        # Only spans of the second invocation are open now.
        assert {row["span_attributes"]["name"] for row in server.open_spans()} <= {"two", "left by two"}
        assert outcomes([spans(server)["one"], spans(server)["left by one"]]) == {
            "one": {"outcome": "ok"}, "left by one": {"outcome": "ok", "closed_by": "guard", "reason": "left_open"},
        }
        second.result(10)
    assert server.open_spans() == []
    found = spans(server)
    for name in ("one", "two"):
        assert found[f"left by {name}"]["span_parents"] == [found[name]["span_id"]]
        assert found[name]["span_parents"] == ([found["parent"]["span_id"]] if shared else None)


def test_of_two_tasks_only_its_own_spans_are_closed(guard: Guard, server: BraintrustServer) -> None:
    """Of two concurrent invocations in tasks, the first to end leaves the other's spans open."""

    async def work(name: str, may_end: asyncio.Event) -> None:
        braintrust.start_span(f"left by {name}")
        await may_end.wait()

    async def main() -> set[str]:
        one_may, two_may = asyncio.Event(), asyncio.Event()
        one = asyncio.create_task(guard.wrap(work, name="one")("one", one_may))
        two = asyncio.create_task(guard.wrap(work, name="two")("two", two_may))
        await asyncio.sleep(0)
        one_may.set()
        await asyncio.wait_for(one, 10)
        still_open = {span.name for span in guard.pipeline.spans.all_open()}
        two_may.set()
        await asyncio.wait_for(two, 10)
        return still_open

    assert asyncio.run(main()) == {"two", "left by two"}
    found, forced = spans(server), {"outcome": "ok", "closed_by": "guard", "reason": "left_open"}
    assert outcomes(server.span_rows()) == {
        "one": {"outcome": "ok"}, "left by one": forced, "two": {"outcome": "ok"}, "left by two": forced,
    }
    for name in ("one", "two"):
        assert found[f"left by {name}"]["span_parents"] == [found[name]["span_id"]]


def test_masking_covers_all_that_is_logged(guard: Guard, server: BraintrustServer) -> None:
    """The SDK's masking function is applied to input, output and error before they reach the disk."""

    def mask(value: Any) -> Any:
        return json.loads(json.dumps(value).replace("4111", "****"))

    def work(card: str, fails: bool) -> str:
        if fails:
            raise ValueError(f"no such card: {card}")
        return card

    braintrust.set_masking_function(mask)
    try:
        assert guard.wrap(work, name="returns")("4111", False) == "4111"
        with pytest.raises(ValueError, match="no such card: 4111"):
            guard.wrap(work, name="raises")("4111", True)
    finally:
        braintrust.set_masking_function(None)
    found = spans(server)
    assert found["returns"]["output"] == "****"
    assert found["raises"]["error"].rstrip().endswith("ValueError: no such card: ****")
    assert "4111" not in json.dumps(server.rows())
    assert not any(b"4111" in path.read_bytes() for path in guard.settings.dir.rglob("*") if path.is_file())


def test_an_error_that_cant_be_masked_is_not_logged(guard: Guard, server: BraintrustServer) -> None:
    """If the masking function raises, the root has the type of the error and none of its text."""

    def broken(value: Any) -> Any:
        raise RuntimeError("masking is broken")

    def work() -> None:
        raise ValueError("no such card: 4111")

    braintrust.set_masking_function(broken)
    try:
        with pytest.raises(ValueError, match="4111"):
            guard.wrap(work, name="root")()
    finally:
        braintrust.set_masking_function(None)
    assert "ValueError: its text could not be masked" in spans(server)["root"]["error"]
    assert "4111" not in json.dumps(server.rows())


def test_a_logger_of_the_users_own_is_used(server: BraintrustServer, directory: Path) -> None:
    """After ``init_logger`` by user code, the root goes to that logger's project."""
    server.add_project("mine", "22222222-2222-3333-4444-555555555555")
    code = """
    import braintrust
    from trace_guard import Guard
    braintrust.init_logger(project_id="22222222-2222-3333-4444-555555555555")
    with Guard().invocation("root"), braintrust.start_span("step"):
        pass
    """
    with Program(code, environment(server, directory)) as program:
        program.ends_well()
    assert parents(server.span_rows()) == {"root": None, "step": "root"}
    assert {row["project_id"] for row in server.span_rows()} == {"22222222-2222-3333-4444-555555555555"}


def test_the_current_span_is_restored(guard: Guard, server: BraintrustServer) -> None:
    """After an invocation, however it ends, the span around it is current again."""
    with guard.invocation("outside"), braintrust.start_span("around") as around:
        with guard.invocation("inside"):
            assert braintrust.current_span() is not around
        assert braintrust.current_span() is around
        with pytest.raises(KeyboardInterrupt), guard.invocation("interrupted"):
            raise KeyboardInterrupt
        assert braintrust.current_span() is around
    assert parents(server.span_rows()) == {
        "outside": None, "around": "outside", "inside": "around", "interrupted": "around",
    }


def test_a_root_without_its_start_row_is_complete(
    guard: Guard, server: BraintrustServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a signal arrives before the root's start is written, the delivered root still has its name and start."""
    begin = guard.pipeline.begin

    def strikes(*args: Any) -> Any:
        monkeypatch.setattr(guard.pipeline, "begin", begin)
        raise Interrupted

    monkeypatch.setattr(guard.pipeline, "begin", strikes)
    with pytest.raises(Interrupted), guard.invocation("root"):
        raise AssertionError("not reached")
    assert guard.flush(10)
    assert outcomes(server.span_rows()) == {"root": {"outcome": "error"}}


def test_a_busy_executor_does_not_hold_up_the_end(guard: Guard, server: BraintrustServer) -> None:
    """A coroutine ends and is delivered even if user code keeps all threads of the loop's executor busy."""
    go_on = threading.Event()

    async def work() -> str:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=1))
        hanging = asyncio.get_running_loop().run_in_executor(None, go_on.wait)
        assert not hanging.done()
        return "done"

    async def main() -> str:
        try:
            return await asyncio.wait_for(guard.wrap(work, name="root")(), 5)
        finally:
            go_on.set()

    assert asyncio.run(main()) == "done"
    assert outcomes(server.span_rows()) == {"root": {"outcome": "ok"}}


def test_a_task_may_be_cancelled_again_and_again(guard: Guard, server: BraintrustServer) -> None:
    """A task that is cancelled again during delivery ends at once, and its trace arrives."""
    server.fail("/logs3", Fault.black_hole())

    async def work() -> None:
        await asyncio.sleep(60)

    async def main() -> float:
        task = asyncio.create_task(guard.wrap(work, name="root")())
        while not task.done() and not server.requests_to("/logs3"):
            await asyncio.sleep(0.001)
            if guard.pipeline.spans.live():
                task.cancel()
        began = time.monotonic()
        while not task.done():
            task.cancel()
            await asyncio.sleep(0.001)
        assert task.cancelled()
        return time.monotonic() - began

    assert asyncio.run(main()) < 1
    server.heal()
    server.wait_for(lambda: delivered(server), timeout=20)
    assert outcomes(server.span_rows()) == {"root": {"outcome": "error"}}
    assert "CancelledError" in spans(server)["root"]["error"]


def test_without_asyncio_a_coroutine_is_guarded_too(guard: Guard, server: BraintrustServer) -> None:
    """A coroutine without asyncio keeps its result, and its trace is delivered."""

    class Pause:
        def __await__(self) -> Iterator[str]:
            yield "paused"

    async def work() -> int:
        await Pause()
        return 5

    coroutine = guard.wrap(work, name="root")()
    assert coroutine.send(None) == "paused"
    with pytest.raises(StopIteration) as stop:
        coroutine.send(None)
    assert stop.value.value == 5
    assert outcomes(server.span_rows()) == {"root": {"outcome": "ok"}}


def test_an_invocation_is_opened_once(guard: Guard, server: BraintrustServer) -> None:
    """Using an invocation a second time opens nothing and is harmless."""
    invocation = guard.invocation("root")
    with invocation, invocation:
        span = invocation.span
    with invocation:
        assert invocation.span is span
    assert outcomes(server.span_rows()) == {"root": {"outcome": "ok"}}
    assert guard.pipeline.spans.live() == []


NEWER = sys.executable if sys.version_info >= (3, 13) else azure_python()


@pytest.mark.skipif(NEWER is None, reason=f"close() returns nothing before Python 3.13. {MISSING}")
def test_close_returns_the_generators_value(server: BraintrustServer, directory: Path) -> None:
    """``close()`` of a guarded generator returns the same value as without the guard."""
    code = """
        from trace_guard import default_guard

        def work():
            try:
                yield 1
            except GeneratorExit:
                return "closed"

        generator = default_guard().wrap(work, name="root")()
        next(generator)
        say(generator.close())
    """
    assert NEWER is not None
    with Program(code, environment(server, directory), python=NEWER) as program:
        assert program.hears() == "closed"
        program.ends_well()
    assert outcomes(server.span_rows()) == {"root": {"outcome": "ok"}}


class Interrupted(BaseException):
    """Raised by the program's signal handler."""


@pytest.mark.parametrize("step", INVOCATION)
def test_a_signal_in_our_code_reaches_the_program(
    guard: Guard, server: BraintrustServer, step: str
) -> None:
    """An exception that a signal handler raises within our code reaches the program, and the trace is still closed."""

    def interrupt(number: int, frame: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    struck = []

    def strike(function: Callable[..., Any], *args: Any, **keywords: Any) -> Any:
        result = function(*args, **keywords)
        if not struck and threading.current_thread() is threading.main_thread():
            struck.append(step)
            signal.raise_signal(signal.SIGUSR1)
        return result

    def work() -> None:
        braintrust.start_span("left open")
        raise ValueError("no such order")

    try:
        with replaced(step, strike), pytest.raises(Interrupted):
            guard.wrap(lambda word: work(), name="root")("input")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert struck == [step]
    # Rows that were still in the SDK's queue are late, and are closed on arrival.
    assert guard.flush(10)
    assert guard.pipeline.spans.all_open() == []
    assert guard.pipeline.spans.live() == []
    assert server.open_spans() == []


def test_an_invocation_in_a_daemon_thread_ends_at_exit(server: BraintrustServer, directory: Path) -> None:
    """An invocation in a daemon thread is closed when the process exits, with the reason exit."""
    code = """
    import threading
    import braintrust
    from trace_guard import Guard
    guard, begun = Guard(), threading.Event()
    def work():
        with guard.invocation("root"):
            with braintrust.start_span("step"):
                begun.set()
                time.sleep(60)
    threading.Thread(target=work, daemon=True).start()
    begun.wait()
    """
    with Program(code, environment(server, directory)) as program:
        program.ends_well()
    ended = {"outcome": "abandoned", "closed_by": "guard", "reason": "exit"}
    assert outcomes(server.span_rows()) == {"root": ended, "step": ended}


def test_all_of_closing_is_bounded(server: BraintrustServer, directory: Path) -> None:
    """A hanging flush and upload of the SDK and a hanging backend cost one flush timeout together."""
    server.fail("*", Fault.black_hole())
    code = """
    import braintrust
    from trace_guard import Guard
    guard = Guard(flush_timeout=0.8, exit_timeout=0.1)
    with guard.invocation("root") as invocation:
        file = braintrust.Attachment(data=b"x", filename="x", content_type="text/plain")
        with braintrust.start_span("step", input=file):
            pass
        began = time.monotonic()
    say(time.monotonic() - began, invocation.delivery.verdict.value)
    os._exit(0)
    """
    with Program(code, environment(server, directory)) as program:
        seconds, verdict = program.hears().split()
    assert verdict == Delivery.SPOOLED.value
    assert 0.7 < float(seconds) < 1.2


def test_little_time_left_is_not_used_up(guard: Guard, server: BraintrustServer) -> None:
    """With a dead backend, an invocation ends before its deadline minus the reserve."""
    server.fail("/logs3", Fault.black_hole())
    deadline = Deadline.after(1.0)
    with guard.invocation("root", deadline=deadline) as invocation:
        pass
    assert 0 < deadline.remaining < 0.5  # loaded machines take a part of it
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is Delivery.SPOOLED
    server.heal()
    server.wait_for(lambda: delivered(server), timeout=20)


@pytest.mark.parametrize("how", ["sys.stderr.close()", "sys.stderr = None", "os.close(2)"])
def test_a_closed_stderr_does_no_harm(directory: Path, how: str) -> None:
    """With a closed stderr, the first invocation, which logs a message, is still traced."""
    code = f"""
    import logging
    import braintrust
    from trace_guard import Guard
    {how}
    guard = Guard()
    with guard.invocation("root"):
        pass
    say(guard.pipeline.backend.traces()[0].outcome)
    os._exit(0)
    """
    with Program(code, environment(None, directory, BRAINTRUST_API_KEY="")) as program:
        program.expects("ok")


def test_the_watchdog_marks_many_at_once(make_guard: MakeGuard, server: BraintrustServer) -> None:
    """Many invocations that time out together are each closed in time, with the running span named."""
    guard, go_on = make_guard(reserve=0.6), threading.Event()

    def work(number: int) -> None:
        with guard.invocation(f"root {number}", deadline=Deadline.after(3.0)), braintrust.start_span(f"step {number}"):
            go_on.wait(20)

    with ThreadPoolExecutor(20) as pool:
        done = [pool.submit(work, number) for number in range(20)]
        until(lambda: len(server.span_rows()) == 40 and delivered(server))
        found = spans(server)
        go_on.set()
        for one in done:
            one.result(20)
    for number in range(20):
        root = found[f"root {number}"]
        assert root["metadata"]["trace_guard"] == {
            "outcome": "timed_out", "closed_by": "watchdog", "reason": "deadline", "running": f"step {number}",
        }
        assert 2.2 < root["metrics"]["end"] - root["metrics"]["start"] < 3.0
