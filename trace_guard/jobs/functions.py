"""Functions that work on the running job."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from ..invocation.invocation import NOTHING
from ..invocation.state import disabled_guard
from .current import running_job
from .job import Job
from .parallel import Processing
from .steps import Step

__all__ = ["current_job", "process", "step"]

T = TypeVar("T")
R = TypeVar("R")


def current_job() -> Job:
    """The job that this code runs in; in threads with a context of their own, the only job that runs.

    Outside any job, or with trace-guard disabled, a job that does nothing, so that the code runs all the same.
    """
    job = running_job()
    return job if isinstance(job, Job) else _no_job()


@functools.cache
def _no_job() -> Job:
    return Job(disabled_guard(), "no job", progress=False)


def step(name: str, *, input: Any = NOTHING, metadata: Mapping[str, Any] | None = None) -> Step:
    """A part of the running job, such as one item, for ``with`` and ``async with``: a span of its own.

    The job's root counts the steps that are done, failed and skipped (:meth:`Step.skip`) in
    ``metadata["job"]["steps"]``. An exception is logged on the span and raised further. Outside any job it is a plain
    span.

    Args:
        name: of the span.
        input: logged on it, redacted and cut, if inputs are captured.
        metadata: logged on it.
    """
    return Step(name, running_job(), input=input, metadata=metadata)


def process(
    items: Iterable[T],
    function: Callable[[T], R],
    *,
    workers: int = 8,
    name: str | None = None,
    on_error: str = "continue",
    in_order: bool = True,
) -> Processing[T, R]:
    """Call a function with each item, in threads. Each call is a step of the running job, in a copy of the context.

    ::

        for result in process(prompts, ask, workers=16):
            if result.ok:
                save(result.item, result.value)

    Args:
        items: any iterable. Items are taken as results are asked for, at most four ahead for each worker, and one for
            each worker before the first result: the iterable must not wait for results.
        function: called with one item; it may call :func:`trace_guard.current_step`.
        workers: how many threads.
        name: of the steps; by default the function's.
        on_error: ``continue``: an exception is the ``error`` of its result. ``raise``: it is raised in place of the
            result, no more items are taken, and running calls are waited for.
        in_order: True for results in the order of the items, False for results as they are ready.

    Returns:
        An iterator of results. ``.run()`` processes all items without a loop. Nothing is done before.

    Raises:
        TypeError: the function is a coroutine function, or can't be called.
        ValueError: a keyword's value is not accepted.
    """
    return Processing(
        items, function, running_job(), workers=workers, name=name, on_error=on_error, in_order=in_order
    )
