"""Which job this code runs in."""

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
    """What the steps of a job need of it; see :class:`~trace_guard.Job`."""

    @property
    def invocation(self) -> Invocation: ...

    @property
    def span(self) -> Any: ...

    @property
    def is_live(self) -> bool: ...

    def expect(self, more: int) -> None:
        """There will be so many more steps."""

    def employ(self, workers: Workers) -> None:
        """The job waits for these workers at its end."""

    def stepped(self, end: str) -> None:
        """A step has ended: ``done``, ``failed`` or ``skipped``."""


_current: contextvars.ContextVar[RunningJob | None] = contextvars.ContextVar("trace_guard_job", default=None)
LIVE: set[RunningJob] = set()
"""The jobs that have begun in this process and not ended."""


def running_job() -> RunningJob | None:
    """The job of this context, else the only one that runs; None outside any job."""
    job = _current.get()
    if job is not None and job.is_live:
        return job
    live = [candidate for candidate in tuple(LIVE) if candidate.is_live]
    return live[0] if len(live) == 1 else None


def enter(job: RunningJob) -> Callable[[], object]:
    """Make it the current job. Returns a function that restores the context, to be called in it."""
    outer = _current.get()
    _current.set(job)
    LIVE.add(job)

    def leave() -> None:
        if _current.get() is job:
            _current.set(outer)

    return leave


def forget(job: RunningJob) -> None:
    """The job has ended."""
    LIVE.discard(job)


def program() -> str:
    """The name of the running program."""
    path = Path(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.name == "__main__.py" else path.stem
    return name if name not in ("", "-c", "-m") else "job"
