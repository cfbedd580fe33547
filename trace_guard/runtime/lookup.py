"""Looks up the organisation and project ids of one destination early, without blocking a caller."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

from ..backends.base import Backend
from ..backends.project_ids import Organisation, ProjectIds
from ..contain import contain, logger
from ..deadline import Deadline
from ..errors import BackendError
from ..journal.directory import CACHE, StateDir
from ..rows import dump
from ..settings import DEFAULT_API_URL, Settings
from ..system.threads import QuietThread
from .forks import will_fork_in_c

__all__ = ["LOOK_UP_SECONDS", "Lookup", "cache_path"]

LOOK_UP_SECONDS = 10.0
"""The longest that a look-up takes."""


def cache_path(settings: Settings, state_dir: StateDir | None) -> Path | None:
    """The file that caches a destination's ids for the next process; None if they stay in memory only."""
    if state_dir is None or settings.backend_name != "braintrust":
        return None
    digest = sha256(dump(settings.destination)).hexdigest()[:16]
    return state_dir.directory / CACHE / f"identity-{digest}.json"


class Lookup:
    """The known ids of an organisation and its projects, from the settings, the cache or the server.

    Args:
        ids: the ids known so far.
        backend: looks up the rest, if it can.

    Attributes:
        is_decided: False while a login may still decide the destination. No id is known until then.
    """

    is_decided = True

    def __init__(self, settings: Settings, ids: ProjectIds, backend: Backend) -> None:
        self._settings = settings
        self._ids = ids
        self._backend = backend

    def use(self, settings: Settings, backend: Backend) -> None:
        """The destination is now known."""
        self._settings, self._backend = settings, backend

    def start(self, name: str | None) -> None:
        """Start to look up the organisation and the project of that name, unless they are known. Does not block."""
        if not hasattr(self._backend, "organisation") or will_fork_in_c():
            return
        if self._ids.organisation is not None and (name is None or self._ids.project_id(name)):
            return
        looking_up = QuietThread(target=self.find_out, args=(name,), name="trace-guard-look-up", daemon=True)
        with contain("look the project up early"):  # without a thread, the first delivery looks it up
            looking_up.start()

    def find_out(self, name: str | None) -> None:
        """Look up the organisation, and the project of that name, and wait for the answers."""
        try:
            self.ask(name, Deadline.after(LOOK_UP_SECONDS))
        except BackendError as error:
            # The courier gets the same error when it delivers, and reports it there.
            logger.debug("the look-up of the project failed: %s", error)

    def ask(self, name: str | None, deadline: Deadline) -> str | None:
        """:meth:`find_out` within a deadline. Returns the id of the project.

        Raises:
            BackendError: the server can't be asked, or refuses an answer.
        """
        if hasattr(self._backend, "organisation"):
            self._backend.organisation(deadline)
        return None if name is None else self._backend.resolve_project(name, deadline)

    @property
    def organisation(self) -> Organisation | None:
        """The organisation, if it is known."""
        return self._ids.organisation

    def project_id(self, name: str) -> str | None:
        """The id of a project, if it is known. Without a server a project's name is its id."""
        if self._settings.project_id and name == self._settings.project:
            return self._settings.project_id
        if self._settings.backend_name != "braintrust":
            return name if self.is_decided else None
        return self._ids.project_id(name)

    def project_name(self, project_id: str) -> str | None:
        """The name of a project, if it is known."""
        if project_id == self._settings.project_id:
            return self._settings.project
        return self._ids.name_of(project_id)

    @property
    def api_url(self) -> str:
        """The URL of the organisation's API, as far as it is known."""
        found = self._ids.organisation
        return self._settings.api_url or (found.api_url if found else None) or DEFAULT_API_URL
