"""trace-guard: no Braintrust trace stays in progress.

It guards serverless handlers and batch jobs. A root span opens when the platform calls the code, closes however the
code ends, and reaches Braintrust before the platform freezes or kills the process. Use the adapter of your platform,
for example ``trace_guard_lambda``, or :class:`Guard` anywhere else.
"""

from typing import TYPE_CHECKING, Any

from .backends.base import Backend
from .deadline import Deadline
from .errors import (
    BackendError,
    BackendRefused,
    BackendUnauthorized,
    BackendUnavailable,
    JournalDamaged,
    JournalError,
    JournalUnavailable,
    SettingsError,
    TraceGuardError,
)
from .guard import Guard, configure, default_guard
from .invocation.invocation import Invocation, current_invocation
from .outcome import Delivery, FlushPolicy, Outcome
from .settings import Settings

if TYPE_CHECKING:
    from .backends.local import LocalStore
    from .guard import watch
    from .job_decorator import guard_job
    from .jobs.functions import current_job, process, step
    from .jobs.job import Job
    from .jobs.parallel import Result
    from .jobs.steps import Step, current_step
    from .repair.marks import keep_open
    from .repair.reaper import Reaper
    from .runtime.recover import Recovery, recover

__version__ = "0.1.0"

__all__ = [
    "Backend",
    "BackendError",
    "BackendRefused",
    "BackendUnauthorized",
    "BackendUnavailable",
    "Deadline",
    "Delivery",
    "FlushPolicy",
    "Guard",
    "Invocation",
    "Job",
    "JournalDamaged",
    "JournalError",
    "JournalUnavailable",
    "LocalStore",
    "Outcome",
    "Reaper",
    "Recovery",
    "Result",
    "Settings",
    "SettingsError",
    "Step",
    "TraceGuardError",
    "configure",
    "current_invocation",
    "current_job",
    "current_step",
    "default_guard",
    "guard_job",
    "keep_open",
    "process",
    "recover",
    "step",
    "watch",
]


_LATER = {
    "Job": "jobs.job", "LocalStore": "backends.local", "Reaper": "repair.reaper", "Recovery": "runtime.recover",
    "Result": "jobs.parallel", "Step": "jobs.steps", "current_job": "jobs.functions", "current_step": "jobs.steps",
    "guard_job": "job_decorator", "keep_open": "repair.marks", "process": "jobs.functions",
    "recover": "runtime.recover", "step": "jobs.functions", "watch": "guard",
}


def __getattr__(name: str) -> Any:
    """Import rarely used names on first use, to keep the import of the package fast."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
