"""The decorator for the main function of a job, and what works on the job that runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar, overload

from ..adapters import guard_for
from ..guard import Guard
from ..invocation.invocation import NOTHING
from ..invocation.wrap import guarded
from ..outcome import FlushPolicy
from .current import running_job
from .heartbeat import HEARTBEAT_SECONDS
from .job import Job
from .parallel import Processing
from .steps import Step

__all__ = ["guard_job", "process", "step"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
R = TypeVar("R")


@overload
def guard_job(main: F) -> F: ...


@overload
def guard_job(
    *,
    guard: Guard | None = ...,
    project: str | None = ...,
    project_id: str | None = ...,
    name: str | None = ...,
    capture_input: bool | None = ...,
    capture_output: bool | None = ...,
    tags: Sequence[str] | None = ...,
    metadata: Mapping[str, Any] | None = ...,
    flush: FlushPolicy | str | None = ...,
    grace: float | None = ...,
    parent: str | Mapping[str, str] | None = ...,
    heartbeat: float = ...,
    progress: bool = ...,
) -> Callable[[F], F]: ...


def guard_job(
    main: Callable[..., Any] | None = None,
    *,
    guard: Guard | None = None,
    project: str | None = None,
    project_id: str | None = None,
    name: str | None = None,
    capture_input: bool | None = None,
    capture_output: bool | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    flush: FlushPolicy | str | None = None,
    grace: float | None = None,
    parent: str | Mapping[str, str] | None = None,
    heartbeat: float = HEARTBEAT_SECONDS,
    progress: bool = True,
) -> Any:
    """Guard the main function of a batch job: each call is one trace, closed and delivered however it ends.

    Use it bare or with keywords. The function keeps its signature, and stays plain or async; so does the exit status of
    the process. A guarded function that is called within a job belongs to that one.

    Args:
        guard: by default the process's own, see :func:`trace_guard.configure`.
        project, project_id: the Braintrust project; by default that of the settings, else the job's name.
        name: of the root span; by default what the platform calls the job, else the function's name, else the
            program's.
        capture_input, capture_output: whether arguments, items of steps, and results are logged; by default as the
            settings say.
        tags, metadata: logged on the root span.
        flush: when rows are delivered. By default the function's end waits for it, at most ``exit_timeout``, and never
            longer than the platform lets the process live.
        grace: seconds between SIGTERM and SIGKILL; by default TRACE_GUARD_GRACE, else what the platform is known for.
        parent: the span that the job belongs below: an exported span, or headers with ``traceparent`` and
            ``baggage``; by default that of the variable TRACE_GUARD_PARENT.
        heartbeat: every so many seconds the root says that the job is alive; 0 for never.
        progress: how far its steps are is shown on standard error, if that is a terminal.

    Raises:
        TypeError: it is used on what is no function, or on a generator, which nobody would run.
        SettingsError: a keyword's value is not accepted. A bad variable in the environment does not raise, as that
            would take the job down: it is reported, and the job runs unguarded.
    """
    with_keywords: Callable[..., Any] = functools.partial(
        guard_job, guard=guard, project=project, project_id=project_id, name=name, capture_input=capture_input,
        capture_output=capture_output, tags=tags, metadata=metadata, flush=flush, grace=grace, parent=parent,
        heartbeat=heartbeat, progress=progress,
    )
    if main is None:
        return with_keywords
    if isinstance(main, staticmethod):
        return staticmethod(with_keywords(main.__func__))
    _check(main)
    chosen = guard_for(
        guard, project=project, project_id=project_id, capture_input=capture_input,
        capture_output=capture_output, flush=flush,
    )
    if chosen is None or chosen.settings.disabled:
        return main
    ours = chosen.start()
    called = getattr(main, "__name__", None)

    def begin(args: tuple[Any, ...], keywords: dict[str, Any]) -> Job:
        return Job(
            ours, name, fallback_name=None if called == "main" else called, grace=grace, parent=parent,
            input={"args": args, "kwargs": keywords} if args or keywords else NOTHING, metadata=metadata, tags=tags,
            heartbeat=heartbeat, progress=progress,
        )

    return guarded(main, begin)


def _check(main: Any) -> None:
    if isinstance(main, str):
        raise TypeError(f"guard_job({main!r}) is not accepted: write @guard_job(name={main!r})")
    if isinstance(main, classmethod):
        raise TypeError("@guard_job is above @classmethod, which makes no function of it: put it below")
    if not callable(main) or inspect.isclass(main):
        raise TypeError(f"guard_job is for the main function of a job, and {main!r} is none")
    if inspect.isgeneratorfunction(main) or inspect.isasyncgenfunction(main):
        raise TypeError(
            f"guard_job is for functions that do the whole job when they are called, and {main.__name__}() is a "
            "generator: guard the function that iterates over it"
        )


def step(name: str, *, input: Any = NOTHING, metadata: Mapping[str, Any] | None = None) -> Step:
    """A part of the job that runs, such as one item, for ``with`` and ``async with``: a span of its own.

    How many are done, failed and skipped (:meth:`Step.skip`) stands on the job's root in
    ``metadata["job"]["steps"]``. An exception is logged on the span and raised on. Outside of any job it is a span
    like any other.

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
    """Call a function with each item, in threads; each call is a step of the job that runs, with the context carried
    over.

    ::

        for result in process(prompts, ask, workers=16):
            if result.ok:
                save(result.item, result.value)

    Args:
        items: any iterable; items are taken as results are asked for, at most four for each worker ahead, and one
            for each worker before the first result is given out: it must not wait for results.
        function: called with one item; it may call :func:`trace_guard.current_step`.
        workers: how many threads.
        name: of the steps; by default the function's.
        on_error: ``continue``: an exception is the ``error`` of its result. ``raise``: it is raised where the result
            would come, no more items are taken, and those that are being worked on are waited for.
        in_order: results come in the order of their items; if not, as they are ready.

    Returns:
        An iterator of results; ``.run()`` does all of it without a loop. Nothing is done before.

    Raises:
        TypeError: the function is a coroutine function, or can't be called.
        ValueError: a keyword's value is not accepted.
    """
    return Processing(
        items, function, running_job(), workers=workers, name=name, on_error=on_error, in_order=in_order
    )
