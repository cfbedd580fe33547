"""The ``guard_job`` decorator: arguments, signature, and the name of the root span."""

from __future__ import annotations

import asyncio
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import braintrust
import pytest

from trace_guard import Guard, SettingsError, current_invocation, current_job, current_step, guard_job, step
from trace_guard.testing import BraintrustServer


@pytest.fixture
def guard(make_guard: Callable[..., Guard]) -> Guard:
    return make_guard()


def nightly(day: str, *, limit: int = 3) -> str:
    """Scores a day."""
    return f"{day} {limit}"


def test_the_function_keeps_its_signature(guard: Guard, server: BraintrustServer) -> None:
    """A guarded function keeps its name, signature and docstring, and its arguments and result are logged."""
    guarded = guard_job(guard=guard, metadata={"team": "evals"}, tags=["nightly"])(nightly)
    assert inspect.signature(guarded) == inspect.signature(nightly)
    assert (guarded.__name__, guarded.__doc__, guarded.__wrapped__) == ("nightly", nightly.__doc__, nightly)
    assert guarded("monday", limit=2) == "monday 2"
    (root,) = server.span_rows()
    assert root["span_attributes"] == {"name": "nightly", "type": "task"}
    assert (root["input"], root["output"]) == ({"args": ["monday"], "kwargs": {"limit": 2}}, "monday 2")
    assert (root["metadata"]["team"], root["tags"]) == ("evals", ["nightly"])


def test_an_async_job_stays_async(guard: Guard, server: BraintrustServer) -> None:
    """A guarded coroutine function stays one, and its tasks find the running job."""
    async def find() -> Any:
        return current_job()

    @guard_job(guard=guard, name="main", capture_output=False)
    async def main() -> bool:
        return await asyncio.create_task(find()) is current_job() and current_job().name == "main"

    assert inspect.iscoroutinefunction(main)
    assert asyncio.run(main()) is True
    assert "output" not in server.span_rows()[0]


class Callable_:
    async def __call__(self) -> Any:
        return await find_job()


class Jobs:
    @staticmethod
    async def static() -> Any:
        return await find_job()


async def find_job() -> Any:
    await asyncio.sleep(0)
    with current_job().step("step"):
        return current_job()


@pytest.mark.parametrize("main", [lambda: find_job(), Callable_(), Jobs.__dict__["static"]])
def test_a_coroutine_from_a_plain_callable_is_guarded(guard: Guard, server: BraintrustServer, main: Any) -> None:
    """If a plain function returns a coroutine, the job lasts until the coroutine ends, and the root is current only
    within it."""
    guarded = guard_job(guard=guard, name="main")(main)

    async def run() -> Any:
        work = (guarded.__func__ if isinstance(guarded, staticmethod) else guarded)()
        assert not braintrust.current_span().id
        return await work

    assert asyncio.run(run()).name == "main"
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert rows["step"]["span_parents"] == [rows["main"]["span_id"]]
    assert rows["main"]["metrics"]["end"] >= rows["step"]["metrics"]["end"]
    assert rows["main"]["metadata"]["trace_guard"] == {"outcome": "ok"}


def test_a_job_within_a_job_is_part_of_it(guard: Guard, server: BraintrustServer) -> None:
    """Within a job, a guarded function opens no root, and ``guard.job()`` opens a plain span with its own steps."""
    @guard_job(guard=guard)
    def inner() -> Any:
        return current_job()

    @guard_job(guard=guard, name="outer")
    def outer() -> None:
        job = current_job()
        assert inner() is job
        with guard.job("by hand") as by_hand:
            assert current_job() is by_hand
            with step("step"):
                pass
        assert current_job() is job

    outer()
    rows = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    assert set(rows) == {"outer", "by hand", "step"}
    assert rows["by hand"]["metadata"]["job"]["steps"]["done"] == 1
    assert "steps" not in rows["outer"]["metadata"]["job"]
    assert current_job().name == "no job"
    assert current_invocation() is None


@pytest.mark.parametrize(
    ("environ", "called", "argv", "name"),
    [
        ({"CLOUD_RUN_JOB": "evals"}, "nightly", "/app/job.py", "evals"),
        ({}, "nightly", "/app/job.py", "nightly"),
        ({}, "main", "/app/job.py", "job"),
        ({}, "main", "/app/evals/__main__.py", "evals"),
        ({}, "main", "-c", "job"),
    ],
)
def test_the_default_name_of_the_root(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], called: str, argv: str, name: str
) -> None:
    """The default name is the platform's name of the job, else the function's, else the program's."""
    for variable, value in environ.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "argv", [argv])

    def main() -> Any:
        return current_job().name

    main.__name__ = called
    assert guard_job(guard=guard)(main)() == name
    assert guard_job(guard=guard, name="mine")(main)() == "mine"


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> Any:
    yield 1


@pytest.mark.parametrize(
    ("main", "words"),
    [
        ("nightly", r"write @guard_job\(name='nightly'\)"),
        (3, r"guard_job is for the main function of a job, and 3 is not a function"),
        (Guard, r"guard_job is for the main function of a job, and <class"),
        (generator, r"generator\(\) is a generator: guard the function that iterates over it"),
        (classmethod(nightly), r"put it below"),
        (async_generator, r"async_generator\(\) is a generator"),
    ],
)
def test_other_objects_are_refused(main: Any, words: str) -> None:
    """Decorating anything but a function raises a TypeError that says what to do instead."""
    with pytest.raises(TypeError, match=words):
        guard_job(main)


def test_bad_settings(monkeypatch: pytest.MonkeyPatch, guard: Guard) -> None:
    """A bad keyword raises at once. A bad variable is logged, and the job runs unguarded."""
    with pytest.raises(SettingsError, match="flush='sometimes'"):
        guard_job(guard=guard, flush="sometimes")(nightly)
    monkeypatch.setattr("trace_guard.guard._default", None)
    monkeypatch.setenv("TRACE_GUARD_RESERVE", "much")
    assert guard_job(nightly) is nightly


def test_a_disabled_guard_changes_nothing(make_guard: Callable[..., Guard], server: BraintrustServer) -> None:
    """With a disabled guard, the decorator returns the function itself, and jobs and steps only run their code."""
    off = make_guard(disabled=True)
    assert guard_job(guard=off)(nightly) is nightly
    current_job().count("items")
    current_step().skip("nobody is there")
    current_step().set_output(1)
    with off.job("job") as job:
        assert job.process([1, 2], lambda item: item, workers=1).run() == {"done": 2, "failed": 0}
        with job.step("step") as step:
            step.set_output(1)
    assert server.requests == []


def test_closing_a_job_in_a_forked_child_has_no_effect(guard: Guard, server: BraintrustServer) -> None:
    """A child that is forked within a job and closes it does not close the job of its parent."""
    with guard.job("job") as job:
        with job.step("before"):
            pass
        child = os.fork()
        if child == 0:
            try:
                job.close(ValueError("the child's own"))
            finally:
                os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with job.step("after"):
            pass
        assert job.invocation.is_live
    (root,) = [row for row in server.span_rows() if row["span_parents"] is None]
    assert (root["metadata"]["trace_guard"], "error" in root) == ({"outcome": "ok"}, False)
    assert root["metadata"]["job"]["steps"]["done"] == 2
