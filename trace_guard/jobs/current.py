"""The job that the current code runs in."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from ..invocation.invocation import Invocation
    from .workers import Workers

__all__ = ["LIVE", "RunningJob", "enter", "forget", "program", "running_job"]


class RunningJob(Protocol):
    """The part of :class:`~trace_guard.Job` that its steps use."""

    @property
    def invocation(self) -> Invocation: ...

    @property
    def span(self) -> Any: ...

    @property
    def is_live(self) -> bool: ...

    def expect_steps(self, more: int | None) -> None:
        """Announce more steps."""

    def add_workers(self, workers: Workers) -> None:
        """Make the job wait for these workers at its end."""

    def step_ended(self, end: str) -> None:
        """Count the end of a step: ``done``, ``failed`` or ``skipped``."""


_current: contextvars.ContextVar[RunningJob | None] = contextvars.ContextVar("trace_guard_job", default=None)
LIVE: set[RunningJob] = set()
"""The running jobs of this process."""


def running_job() -> RunningJob | None:
    """The job of this context, else the only running job; None outside any job."""
    job = _current.get()
    if job is not None and job.is_live:
        return job
    live = [candidate for candidate in tuple(LIVE) if candidate.is_live]
    return live[0] if len(live) == 1 else None


def enter(job: RunningJob) -> Callable[[], object]:
    """Make a job current. Returns a function that restores the context and must be called in the same context."""
    outer = _current.get()
    _current.set(job)
    LIVE.add(job)

    def leave() -> None:
        if _current.get() is job:
            _current.set(outer)

    return leave


def forget(job: RunningJob) -> None:
    """Remove a job that has ended."""
    LIVE.discard(job)


def program() -> str:
    """The name of the running program."""
    path = Path(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.name == "__main__.py" else path.stem
    return name if name not in ("", "-c", "-m") else "job"
