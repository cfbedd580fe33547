"""Which job it is that code runs in."""

from __future__ import annotations

import contextvars
import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .job import Job

__all__ = ["current_job", "enter", "forget", "program", "running_job"]

_current: contextvars.ContextVar[Job | None] = contextvars.ContextVar("trace_guard_job", default=None)
_live: set[Job] = set()


def current_job() -> Job:
    """The job that this code runs in; in threads with a context of their own the only one that runs. Outside of any,
    or with trace-guard switched off, one that does nothing, so that code which uses it runs all the same."""
    return running_job() or _no_job()


def running_job() -> Job | None:
    """:func:`current_job`, or None outside of any."""
    found = _current.get()
    if found is not None and found.is_live:
        return found
    live = [one for one in tuple(_live) if one.is_live]
    return live[0] if len(live) == 1 else None


def enter(job: Job) -> Callable[[], object]:
    """Make it the current one; returns what gives the context back, to be called in it."""
    outer = _current.get()
    _current.set(job)
    _live.add(job)

    def leave() -> None:
        if _current.get() is job:
            _current.set(outer)

    return leave


def forget(job: Job) -> None:
    """It has ended."""
    _live.discard(job)


def program() -> str:
    """What the program that runs is called."""
    path = Path(sys.argv[0] if sys.argv else "")
    name = path.parent.name if path.name == "__main__.py" else path.stem
    return name if name not in ("", "-c", "-m") else "job"


@functools.cache
def _no_job() -> Job:
    from ..guard import Guard
    from ..settings import Settings
    from .job import Job

    return Job(Guard(Settings(disabled=True)), "no job", progress=False)
