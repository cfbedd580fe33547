"""A Braintrust backend that imports its HTTP libraries at the first use, so that the command starts without delay."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..backends.project_ids import Organisation, ProjectIds
from ..deadline import Deadline
from ..settings import Settings

if TYPE_CHECKING:
    from ..backends.braintrust import BraintrustBackend
    from ..journal.spooled import Content, SpooledAttachment

__all__ = ["LazyBackend"]


class LazyBackend:
    """Delegates to a :class:`trace_guard.backends.braintrust.BraintrustBackend` that it creates at the first use.

    Attributes:
        ids: must be set before the first use.
    """

    name = "braintrust"
    # Less than the backend's own limit, which is unknown until the backend is imported.
    max_bytes = 1024 * 1024
    ids: ProjectIds

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @functools.cached_property
    def _backend(self) -> BraintrustBackend:
        from ..backends.braintrust import BraintrustBackend

        return BraintrustBackend(self._settings, self.ids)

    def send(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        self._backend.send(rows, deadline)

    def attach(self, one: SpooledAttachment, deadline: Deadline) -> None:
        self._backend.attach(one, deadline)

    def find_attachment(self, key: str) -> Content | None:
        return self._backend.find_attachment(key)

    def organisation(self, deadline: Deadline) -> Organisation:
        return self._backend.organisation(deadline)

    def resolve_project(self, name: str, deadline: Deadline) -> str:
        return self._backend.resolve_project(name, deadline)

    def close(self) -> None:
        if "_backend" in self.__dict__:
            self._backend.close()
