"""Makes the backend that settings name. Each backend's module is imported only when it is needed."""

from __future__ import annotations

import contextlib
import functools

from ..journal.directory import STORE_NAME, examine, locate
from ..settings import Settings
from .base import Backend
from .project_ids import ProjectIds

__all__ = ["make_backend"]


def make_backend(settings: Settings, ids: ProjectIds) -> Backend:
    """The backend that settings name.

    Args:
        ids: where Braintrust's ids are kept when they are found out.
    """
    if settings.backend_name == "braintrust":
        from .braintrust import BraintrustBackend

        return BraintrustBackend(settings, ids)
    if settings.backend_name == "memory":
        from .memory import MemoryBackend

        return MemoryBackend()
    from .local import LocalStore

    with contextlib.suppress(ImportError):  # the store itself says so when it is used
        import sqlite3  # noqa: F401 - not later, in the courier's thread: see trace_guard.backends.transport

    return LocalStore(locate(settings.dir) / STORE_NAME, functools.partial(examine, settings.dir))
