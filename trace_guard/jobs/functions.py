"""Public functions that work on the running job."""

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
    """The job that this code runs in. In threads with a context of their own, the only running job.

    Outside any job, or if trace-guard is disabled, it returns a job that does nothing, so the calling code still works.
    """
    job = running_job()
    return job if isinstance(job, Job) else _no_job()


@functools.cache
def _no_job() -> Job:
    return Job(disabled_guard(), "no job", progress=False)


def step(name: str, *, input: Any = NOTHING, metadata: Mapping[str, Any] | None = None) -> Step:
    """A part of the running job with its own span, such as one item. Use it with ``with`` or ``async with``.

    The job's root counts the steps that are done, failed and skipped (:meth:`Step.skip`) in
    ``metadata["job"]["steps"]``. An exception is logged on the span and re-raised. Outside any job, the step is a plain
    span.

    Args:
        name: of the span.
        input: logged on the span, redacted and cut, if inputs are captured.
        metadata: logged on the span.
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
    """Call a function with each item, in threads. Each call is a step of the running job and has a copy of the context.

    ::

        for result in process(prompts, ask, workers=16):
            if result.ok:
                save(result.item, result.value)

    Args:
        items: any iterable. Items are taken while results are requested: one per worker before the first result, and at
            most four per worker ahead of the results. So the iterable must not wait for results.
        function: called with one item. It may call :func:`trace_guard.current_step`.
        workers: the number of threads.
        name: of the steps; the function's name by default.
        on_error: with ``continue``, an exception becomes the ``error`` of its result. With ``raise``, it is raised in
            place of the result, after the running calls have ended; no more items are taken.
        in_order: True for results in the order of the items, False for results as they become ready.

    Returns:
        An iterator of results. ``.run()`` processes all items without a loop. Nothing runs before the first result is
        requested.

    Raises:
        TypeError: the function is a coroutine function or is not callable.
        ValueError: a keyword's value is not accepted.
    """
    return Processing(
        items, function, running_job(), workers=workers, name=name, on_error=on_error, in_order=in_order
    )
