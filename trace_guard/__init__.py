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
from .settings import Settings

if TYPE_CHECKING:
    from .backends.local import LocalStore
    from .recovery import Recovery, recover

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


_LATER = {"LocalStore": "backends.local", "Recovery": "recovery", "recover": "recovery"}


def __getattr__(name: str) -> Any:
    """Import what a function that runs well never uses when somebody asks for it."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_LATER[name]}", __name__), name)
