"""trace-guard: no Braintrust trace stays in progress.

Guards serverless handlers and batch jobs: a root span opens when the platform calls, closes however the code
ends, and reaches Braintrust before the platform freezes or kills the process. Start from an adapter
(``trace_guard_lambda``), or from :class:`Guard` for anything else.
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
from .invocation import Invocation, current_invocation
from .outcome import Delivery, FlushPolicy, Outcome
from .recovery import Recovery, recover
from .settings import Settings

if TYPE_CHECKING:
    from .backends.local import LocalStore

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


def __getattr__(name: str) -> Any:
    """The local store is imported when somebody asks for it: a function that has a key never does."""
    if name == "LocalStore":
        from .backends.local import LocalStore

        return LocalStore
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
