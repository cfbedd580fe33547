"""Steps, and the processing of items in threads."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import braintrust
import pytest
from support import until

from trace_guard import Guard, current_job, current_step, process, step
from trace_guard.jobs import current
from trace_guard.rows import Row
from trace_guard.testing import BraintrustServer

FORCED = {"outcome": "ok", "closed_by": "guard", "reason": "left_open"}


@pytest.fixture
def guard(make_guard: Callable[..., Guard]) -> Guard:
    return make_guard()


def root_of(server: BraintrustServer) -> Row:
    (root,) = [row for row in server.span_rows() if row["span_parents"] is None]
    return root


def below(server: BraintrustServer, name: str) -> list[Row]:
    return [row for row in server.span_rows() if row["span_attributes"]["name"] == name]


def test_steps_are_spans_that_are_counted(guard: Guard, server: BraintrustServer) -> None:
    """A step is a span of type task with input and error, spans within it are its children, and the root counts the
    steps."""
    with guard.job("job") as job:
        with step("fetch", input={"page": 1, "api_key": "secret"}) as fetch, braintrust.start_span("inner"):
            assert (current_step(), current_job()) == (fetch, job)
        with step("skip") as skipped:
            skipped.skip("is there already")
        with pytest.raises(ValueError, match="no such page"), step("fail", metadata={"page": 2}):
            raise ValueError("no such page")
        job.count("pages", 2)
        assert current_step().name == "no step"
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert rows["fetch"]["input"] == {"page": 1, "api_key": "[redacted]"}
    assert rows["fetch"]["span_attributes"]["type"] == "task"
    assert rows["inner"]["span_parents"] == [rows["fetch"]["span_id"]]
    assert rows["skip"]["metadata"] == {"step": {"skipped": "is there already"}}
    assert rows["fail"]["metadata"] == {"page": 2}
    assert "ValueError: no such page" in rows["fail"]["error"]
    assert root_of(server)["metadata"]["job"] == {
        "platform": "plain", "pages": 2, "steps": {"done": 1, "failed": 1, "skipped": 1},
    }
    assert root_of(server)["metadata"]["trace_guard"] == {"outcome": "ok"}


def test_steps_of_concurrent_tasks_are_siblings(guard: Guard, server: BraintrustServer) -> None:
    """The steps of concurrent tasks are siblings, each with the spans of its own task."""
    async def work(name: str) -> None:
        async with step(name):
            await asyncio.sleep(0)
            async with step(f"within {name}"):
                await asyncio.sleep(0)

    async def main() -> None:
        async with guard.job("job"):
            await asyncio.gather(work("a"), work("b"))

    asyncio.run(main())
    names = {row["span_id"]: row["span_attributes"]["name"] for row in server.span_rows()}
    above = {row["span_attributes"]["name"]: names[row["span_parents"][0]] for row in server.span_rows()
             if row["span_parents"]}
    assert above == {"a": "job", "b": "job", "within a": "a", "within b": "b"}


def test_a_step_in_a_thread_without_a_context_belongs_to_the_job(guard: Guard, server: BraintrustServer) -> None:
    """A step in a thread without a copied context is below the root of the only running job, and is counted."""
    def work() -> None:
        with step("far off"):
            pass

    with guard.job("job"):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    (far,) = below(server, "far off")
    assert far["span_parents"] == [root_of(server)["span_id"]]
    assert root_of(server)["metadata"]["job"]["steps"]["done"] == 1


def test_a_step_outside_of_any_job_runs_its_code(guard: Guard) -> None:
    """A step outside any job runs its code unchanged."""
    with step("alone", input=1) as alone:
        alone.set_output(2)
    with pytest.raises(KeyError), step("fails"):
        raise KeyError("no such item")
    assert [result.value for result in process([1, 2], lambda item: item + 1)] == [2, 3]
    guard.start().flush()  # leave no rows of a logger of earlier tests for the next ones


def test_items_are_processed_in_threads(guard: Guard, server: BraintrustServer) -> None:
    """Each item is a step below the current span, the requested number of threads runs, and results and errors come in
    the order of the items."""
    both = threading.Barrier(2, timeout=20)

    def halve(item: int) -> int:
        both.wait()
        if item == 4:
            current_step().skip("is small")
        with braintrust.start_span("inner"):
            return 12 // item

    with guard.job("job"), braintrust.start_span("batch") as batch:
        results = list(process([3, 0, 4, 6], halve, workers=2, name="halve it"))
    assert [(one.index, one.item, one.value, one.ok) for one in results] == [
        (0, 3, 4, True), (1, 0, None, False), (2, 4, 3, True), (3, 6, 2, True),
    ]
    assert isinstance(results[1].error, ZeroDivisionError)
    assert "error=ZeroDivisionError" in repr(results[1])
    steps = below(server, "halve it")
    assert {row["span_parents"][0] for row in steps} == {batch.span_id}
    assert {row["span_id"] for row in steps} >= {row["span_parents"][0] for row in below(server, "inner")}
    assert sorted((row["input"], row.get("output")) for row in steps) == [(0, None), (3, 4), (4, 3), (6, 2)]
    assert root_of(server)["metadata"]["job"]["steps"] == {"done": 2, "failed": 1, "skipped": 1}


def test_items_are_taken_as_they_are_needed(guard: Guard) -> None:
    """A bounded number of items is taken ahead, and none after the loop is left."""
    taken = itertools.count()
    with guard.job("job"):
        for result in process((next(taken) for _ in itertools.count()), str, workers=2):
            if result.value == "20":
                break
        so_far = next(taken)
        assert 20 < so_far <= 21 + 2 * 4
        gc.collect()
        assert next(taken) == so_far + 1


def test_results_as_they_are_ready(guard: Guard) -> None:
    """With ``in_order=False``, a result does not wait for the results of earlier items."""
    go_on = threading.Event()
    with guard.job("job"):
        results = process([0, 1, 2], lambda item: item == 0 and go_on.wait(20), workers=2, in_order=False)
        assert sorted(next(results).item for _ in range(2)) == [1, 2]
        go_on.set()
        assert next(results).item == 0
        assert list(results) == []


def test_an_error_can_end_the_processing(guard: Guard, server: BraintrustServer) -> None:
    """With ``on_error="raise"``, the original exception is raised after the running calls have ended, and no more items
    are taken."""
    fault, taken, began = ValueError("no such item"), [], threading.Event()

    def work(item: int) -> None:
        if item == 0:
            began.wait(20)
            raise fault
        began.set()

    with guard.job("job"):
        results = process((taken.append(item) or item for item in range(1000)), work, workers=2, on_error="raise")
        with pytest.raises(ValueError, match="no such item") as raised:
            results.run()
        assert raised.value is fault
        assert list(results) == []
    assert len(taken) < 20
    assert [row for row in below(server, "work") if (row.get("metadata") or {}).get("trace_guard")] == []


def test_a_stop_iteration_of_the_function_is_an_error(guard: Guard) -> None:
    """A StopIteration from the function is raised as a RuntimeError, so it does not look like the end of the
    results."""
    with guard.job("job"):
        results = process([[1], [], [2]], lambda item: next(iter(item)), workers=1, on_error="raise")
        with pytest.raises(RuntimeError, match="raised StopIteration") as raised:
            list(results)
        assert isinstance(raised.value.__cause__, StopIteration)


def test_loops_that_are_left_leave_no_threads(guard: Guard) -> None:
    """Leaving a loop over results with ``break`` ends its threads at once."""
    def workers() -> int:
        return sum(thread.name.startswith("process") for thread in threading.enumerate())

    with guard.job("job"):
        for _ in range(20):
            for _ in process(itertools.count(), str, workers=4):
                break
        gc.collect()
        until(lambda: not workers(), what="the end of the threads")


class Stream:
    """A dataset loader with a ``__len__`` that raises."""

    def __len__(self) -> int:
        raise TypeError("a stream has no length")

    def __iter__(self) -> Iterator[int]:
        return iter(range(3))


def test_items_may_be_without_a_length(guard: Guard) -> None:
    """Any iterable can be processed, even if asking for its length fails."""
    with guard.job("job"):
        assert process(Stream(), str).run() == {"done": 3, "failed": 0}
        assert next(process(range(10**20), str)).value == "0"


def test_a_fault_of_the_iterable_comes_after_the_results(guard: Guard) -> None:
    """An exception from the iterable is raised after the results of all earlier items."""
    def items() -> Iterator[int]:
        yield from range(3)
        raise OSError("the file ends here")

    with guard.job("job"):
        results = process(items(), lambda item: item, workers=2)
        assert [next(results).value for _ in range(3)] == [0, 1, 2]
        with pytest.raises(OSError, match="the file ends here"):
            next(results)
        assert list(results) == []


def test_a_job_waits_for_the_items_that_it_has_begun(guard: Guard, server: BraintrustServer) -> None:
    """A job without an error waits for running items, a failed job takes no more items, and no span stays open."""
    began, go_on = threading.Event(), threading.Event()

    def work(item: int) -> None:
        if item:
            began.set()
            go_on.wait(20)

    with guard.job("job"):
        results = process(range(2), work, workers=2)
        next(results)
        assert began.wait(20)
        threading.Timer(0.2, go_on.set).start()
    assert [(row.get("metadata") or {}).get("trace_guard") for row in below(server, "work")] == [None, None]
    taken: list[int] = []

    def fails() -> None:
        with guard.job("job"):
            next(process((taken.append(item) or item for item in range(1000)), work, workers=2))
            raise LookupError("no such table")

    with pytest.raises(LookupError):
        fails()
    assert len(taken) < 20


@pytest.mark.parametrize(
    ("keywords", "kind", "words"),
    [
        ({"workers": 0}, ValueError, r"workers=0 is not accepted: it takes a whole number"),
        ({"on_error": "ignore"}, ValueError, r"on_error='ignore' is not accepted: it takes continue or raise"),
        ({"function": 3}, TypeError, r"3 can't be called"),
        ({"function": asyncio.sleep}, TypeError, r"'sleep' is a coroutine function: use asyncio.TaskGroup"),
    ],
)
def test_bad_arguments_of_process(keywords: dict[str, Any], kind: type[Exception], words: str) -> None:
    """A bad argument raises at once, with a message that says what is accepted."""
    with pytest.raises(kind, match=words):
        process([1], **{"function": str, **keywords})


def test_unused_results_are_warned_of() -> None:
    """If the results are never requested, a warning says that nothing was done and names ``.run()``."""
    with pytest.warns(RuntimeWarning, match=r"nothing was done: iterate over them, or call \.run\(\)"):
        process([1], str)
    counts = process([1, 0], lambda item: 1 // item).run()
    assert Counter(counts) == Counter(done=1, failed=1)


def test_a_heartbeat_has_its_time_and_the_step_counts(
    make_guard: Callable[..., Guard], server: BraintrustServer
) -> None:
    """While a job runs, its open root in Braintrust has the time of the last heartbeat and the step counts."""
    def beats() -> float:
        about = [row.get("metadata", {}) for row in server.span_rows() if row["span_parents"] is None]
        alive = [one for one in about if one.get("job", {}).get("steps") == {"done": 1, "failed": 0, "skipped": 0}]
        return max((one["trace_guard"]["heartbeat"] for one in alive), default=0.0)

    with make_guard(linger=0.05).job("job", heartbeat=0.1):
        with step("first"):
            pass
        first = until(beats, what="a heartbeat")
        until(lambda: beats() > first, what="another one")
        assert len(server.open_spans()) == 1
    root = root_of(server)
    assert root["metadata"]["trace_guard"].pop("heartbeat") > root["metrics"]["start"]
    assert root["metadata"]["trace_guard"] == {"outcome": "ok"}
    assert server.open_spans() == []


def test_an_interrupt_ends_the_wait_for_items(guard: Guard, server: BraintrustServer) -> None:
    """A KeyboardInterrupt ends the wait for items, and the job is still closed."""
    began, go_on = threading.Event(), threading.Event()

    def work(item: int) -> None:
        if item:
            began.set()
            go_on.wait(20)

    job = guard.job("job")

    def main() -> None:
        with job:
            results = process(range(2), work, workers=2)  # keep a reference, because an unreferenced iterator stops
            next(results)
            assert began.wait(20)
            threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()

    with pytest.raises(KeyboardInterrupt):
        main()
    go_on.set()
    assert root_of(server)["metadata"]["trace_guard"]["outcome"] in ("error", "terminated")
    assert job not in current.LIVE


def test_deprecated_methods_still_work(guard: Guard, server: BraintrustServer) -> None:
    """``Guard.step`` and ``Guard.process`` work, and warn with the name of the function to use."""
    with guard.job("job"):
        with pytest.warns(DeprecationWarning, match=r"use trace_guard\.step"), guard.step("step"):
            pass
        with pytest.warns(DeprecationWarning, match=r"use trace_guard\.process"):
            assert guard.process([1], str).run() == {"done": 1, "failed": 0}
