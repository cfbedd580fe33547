"""trace-guard: no Braintrust trace stays in progress.

Guards serverless handlers and batch jobs: a root span opens when the platform calls, closes however the code
ends, and reaches Braintrust before the platform freezes or kills the process. Start from an adapter
(``trace_guard_lambda``), or from :class:`Guard` for anything else.
"""

from .backends.base import Backend
from .backends.local import LocalStore
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
from .invocation import Invocation, current_invocation
from .outcome import Delivery, FlushPolicy, Outcome
from .recovery import Recovery, recover
from .settings import Settings

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
    "JournalDamaged",
    "JournalError",
    "JournalUnavailable",
    "LocalStore",
    "Outcome",
    "Recovery",
    "Settings",
    "SettingsError",
    "TraceGuardError",
    "configure",
    "current_invocation",
    "default_guard",
    "recover",
]
