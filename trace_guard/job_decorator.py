"""``guard_job``, the decorator for the main function of a job."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, overload

from .deadline import Seconds
from .guard import Guard, Options
from .invocation.invocation import NOTHING
from .invocation.wrap import guarded
from .jobs.failing import FailIf, check_fail_if
from .jobs.heartbeat import HEARTBEAT_SECONDS
from .jobs.job import Job
from .outcome import FlushPolicy
from .settings import Capture, checked, checked_seconds

__all__ = ["guard_job"]

F = TypeVar("F", bound=Callable[..., Any])

_JOB = "__trace_guard_job__"
"""The attribute that marks a guarded job."""


@overload
def guard_job(main: F) -> F: ...


@overload
def guard_job(
    *,
    guard: Guard | None = ...,
    project: str | None = ...,
    project_id: str | None = ...,
    name: str | None = ...,
    capture_input: Capture | None = ...,
    capture_output: Capture | None = ...,
    tags: Sequence[str] | None = ...,
    metadata: Mapping[str, Any] | None = ...,
    flush: FlushPolicy | str | None = ...,
    grace: Seconds | None = ...,
    parent: str | Mapping[str, str] | None = ...,
    heartbeat: Seconds = ...,
    progress: bool = ...,
    fail_if: FailIf | None = ...,
) -> Callable[[F], F]: ...


def guard_job(
    main: Any = NOTHING,
    *,
    guard: Guard | None = None,
    project: str | None = None,
    project_id: str | None = None,
    name: str | None = None,
    capture_input: Capture | None = None,
    capture_output: Capture | None = None,
    tags: Sequence[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    flush: FlushPolicy | str | None = None,
    grace: Seconds | None = None,
    parent: str | Mapping[str, str] | None = None,
    heartbeat: Seconds = HEARTBEAT_SECONDS,
    progress: bool = True,
    fail_if: FailIf | None = None,
) -> Any:
    """Guard the main function of a batch job: each call is one trace, closed and delivered however the call ends.

    Use it bare or with keywords. The function keeps its signature and its kind, plain or async. The exit status of the
    process does not change. A guarded function that is called within a job is part of that job.

    Args:
        guard: the guard to use; by default that of :func:`trace_guard.configure`.
        project, project_id: the Braintrust project. The default is that of the settings, else the job's name.
        name: of the root span. The default is the platform's name for the job, else the function's name, else the
            program's name.
        capture_input, capture_output: whether arguments, items of steps and results are logged. Functions get each of
            them and return what is logged; arguments are ``{"args": ..., "kwargs": ...}``. The default is that of the
            settings.
        tags, metadata: logged on the root span.
        flush: when rows are delivered. By default the end of the function waits for delivery, for at most
            ``exit_timeout`` seconds and never longer than the platform keeps the process alive.
        grace: seconds between SIGTERM and SIGKILL, or a timedelta. The default is TRACE_GUARD_GRACE, else the
            platform's known value.
        parent: the parent span of the job: an exported span, or headers with ``traceparent`` and ``baggage``. The
            default is the variable TRACE_GUARD_PARENT.
        heartbeat: seconds between two signs of life on the root span; 0 for none.
        progress: whether to show the progress of the steps on standard error, if that is a terminal.
        fail_if: when a job that raises nothing is an error because of its steps: a share of failed ones among those
            done or failed (0 for any, 0.1 for more than a tenth), or a function of the counts ``done``, ``failed`` and
            ``skipped`` that returns True for an error. The exit status does not change.

    Raises:
        TypeError: the decorated object is not a function, is a job already, or is a generator function.
        SettingsError: a keyword's value is not accepted. A bad environment variable does not raise: it is logged, and
            the job runs unguarded.
    """
    with_keywords: Callable[..., Any] = functools.partial(
        guard_job, guard=guard, project=project, project_id=project_id, name=name, capture_input=capture_input,
        capture_output=capture_output, tags=tags, metadata=metadata, flush=flush, grace=grace, parent=parent,
        heartbeat=heartbeat, progress=progress, fail_if=fail_if,
    )
    if main is NOTHING:
        return with_keywords
    if isinstance(main, staticmethod):
        return staticmethod(with_keywords(main.__func__))
    _check(main)
    options = Options(
        guard=guard, project=project, project_id=project_id, name=name, capture_input=capture_input,
        capture_output=capture_output, tags=tags, metadata=metadata, flush=flush,
    )
    grace = None if grace is None else checked("grace", grace)
    heartbeat = checked_seconds("heartbeat", heartbeat)
    check_fail_if(fail_if)
    chosen = options.make_guard()
    if chosen is None:
        return main
    ours = chosen.start()
    called = getattr(main, "__name__", None)

    def begin(args: tuple[Any, ...], keywords: dict[str, Any]) -> Job:
        return Job(
            ours, name, fallback_name=None if called == "main" else called, grace=grace, parent=parent,
            input={"args": args, "kwargs": keywords} if args or keywords else NOTHING, metadata=options.metadata,
            tags=options.tags, heartbeat=heartbeat, progress=progress, fail_if=fail_if,
        )

    job = guarded(main, begin)
    setattr(job, _JOB, True)
    return job


def _check(main: Any) -> None:
    if isinstance(main, str):
        raise TypeError(f"guard_job({main!r}) is not accepted: write @guard_job(name={main!r})")
    if isinstance(main, classmethod):
        raise TypeError("@guard_job can't decorate a classmethod object: put it below @classmethod")
    if not callable(main) or inspect.isclass(main):
        raise TypeError(f"guard_job is for the main function of a job, and {main!r} is not a function")
    if hasattr(main, _JOB):
        raise TypeError(
            f"{_name_of(main)} is guarded by guard_job already: remove one of the two, as a job within a job is a part "
            "of it, and the inner keywords have no effect"
        )
    if inspect.isgeneratorfunction(main) or inspect.isasyncgenfunction(main):
        raise TypeError(
            f"guard_job decorates a function that runs the whole job, and {_name_of(main)}() is a generator: guard the "
            "function that iterates over it"
        )


def _name_of(main: Any) -> str:
    return str(getattr(main, "__name__", main))
