"""Selects the pipeline for rows by their credentials."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from ..backends.base import Backend
from ..contain import contain, warn_once
from ..journal.row_facts import RowFacts
from ..redaction.urls import strip_userinfo
from ..settings import Settings
from ..system.clock import monotonic
from .announcements import announce_late_key
from .pipeline import Pipeline

__all__ = ["Credentials", "Logins"]

# Programs that serve several customers switch logins often, and connections are expensive to open. An idle login
# pipeline keeps its connections for this time, and at most this many pipelines keep theirs.
_IDLE_SECONDS = 10.0
_MOST_IDLE = 3
# At most this many login pipelines are remembered without threads, connections and files.
_REMEMBERED = 1000


class Credentials(NamedTuple):
    """The credentials of an SDK login."""

    api_key: str | None
    app_url: str
    org_name: str | None

    @classmethod
    def of(cls, settings: Settings) -> Credentials:
        """The credentials in a guard's settings."""
        return cls(settings.api_key, settings.app_url.rstrip("/"), settings.org_name)


class Logins:
    """The pipelines of a process: its guards' pipelines, and one for each other destination that receives rows.

    The first guard's pipeline is the *home* of the SDK's global state, which the guard logs in with its own
    credentials. A login by the user moves the guards that share these credentials to another pipeline. Running
    invocations stay on their pipeline. The first login decides the destination of guards that have no key, unless they
    have delivered something already.

    Args:
        make: creates a pipeline.
    """

    def __init__(self, make: Callable[[Settings, Backend | None], Pipeline]) -> None:
        self._make = make
        self._lock = threading.RLock()
        self._guards: list[Pipeline] = []
        # Pipelines for other credentials, the most recently used last.
        self._others: dict[Any, Pipeline] = {}
        self._used: dict[Pipeline, float] = {}
        self._asleep: set[Pipeline] = set()
        self._login: Credentials | None = None
        # The login that has decided the destination of guards without a key.
        self._first_login: Credentials | None = None

    def pipelines(self) -> list[Pipeline]:
        """All pipelines."""
        return [*self._guards, *list(self._others.values())]

    def of_guard(self, settings: Settings, backend: Backend | None) -> tuple[Pipeline, bool]:
        """The pipeline for a guard, and whether it is new.

        Args:
            backend: replaces the one that the settings name. No other guard shares it.
        """
        with self._lock:
            if self._first_login is not None and backend is None and settings.lacks_key:
                settings = settings.with_login(*self._first_login)
            key = _key(settings)
            for pipeline in self._guards:
                if backend is None and pipeline.is_shared and _key(pipeline.settings) == key:
                    return pipeline, False
            known = self._others.pop(key, None) if backend is None else None
            pipeline = known or self._make(settings, backend)
            self._guards.append(pipeline)
            return pipeline, known is None

    def remove(self, pipeline: Pipeline) -> None:
        """Forget a guard's pipeline after it is closed."""
        with self._lock:
            self._guards.remove(pipeline)
            if not self._guards:
                self._login = self._first_login = None
                self._others, self._used, self._asleep = {}, {}, set()

    def without_guard(self) -> list[Pipeline]:
        """The pipelines of other credentials than the guards'."""
        return [one for one in list(self._others.values()) if one not in self._guards]

    @property
    def guards(self) -> list[Pipeline]:
        """The guards' pipelines."""
        return list(self._guards)

    @property
    def home(self) -> Pipeline | None:
        """The pipeline with whose credentials the guard logs in the SDK."""
        return next(iter(self._guards), None)

    @property
    def current(self) -> Pipeline | None:
        """The pipeline of the global state's current login: if guards have its credentials, that of the newest one that
        is open."""
        home = self.home
        if home is None:
            return None
        chosen, guards = self.of(home), self.guards
        if chosen not in guards:
            return chosen
        credentials = Credentials.of(chosen.settings)
        return next(one for one in reversed(guards) if Credentials.of(one.settings) == credentials)

    @property
    def follows(self) -> bool:
        """True if the login of the global state decides the destination of the guards that share its credentials."""
        home = self.home
        return home is not None and _may_follow(home)

    def log_in(self, api_key: str, app_url: str, org_name: str | None) -> None:
        """The SDK's global state uses these credentials from now on."""
        home = self.home
        if home is not None and self.follows:
            login = Credentials(api_key, strip_userinfo(app_url).rstrip("/"), org_name)
            for guards in self.guards:
                if guards.is_undecided and guards.log_in(guards.settings.with_login(*login)):
                    self._first_login = login
            self._used[self.of(home)] = monotonic()
            self._login = None if login == Credentials.of(home.settings) else login
            if self._login is not None and home.settings.lacks_key and home.state_dir is not None:
                announce_late_key(home.state_dir.directory)

    def of(self, guards: Pipeline) -> Pipeline:
        """The pipeline for the next invocation of a guard, given the guard's own pipeline."""
        login, home = self._login, self.home
        if login is not None and home is not None and _may_follow(guards):
            own = Credentials.of(guards.settings)
            if own.api_key is None or own == Credentials.of(home.settings):  # otherwise it has its own credentials
                return self._find(guards.settings.with_login(login.api_key, login.app_url, login.org_name))
        self._asleep.discard(guards)
        return guards

    def of_request(self, api_key: str, api_url: str) -> Pipeline | None:
        """The pipeline for rows that another SDK state sends to this URL with this key."""
        home = self.home
        return None if home is None else self._find(replace(
            home.settings, backend="braintrust", api_key=api_key, api_url=api_url, org_name=None,
        ))

    def owner(self, row: RowFacts) -> Pipeline | None:
        """The pipeline for a row of the global state: its invocation's pipeline, otherwise the current login's."""
        if len(self._guards) == 1 and self._login is None and not self._others and not self._asleep:
            return self._guards[0]  # no other may be it
        for pipeline in self.pipelines():
            if pipeline.spans.owner_of(row) is not None:
                return pipeline
        return self.current

    def let_go(self) -> None:
        """Release the connections and files of pipelines that no current login uses: idle ones, and the oldest if there
        are too many. They reopen with their next row."""
        if self._login is None and not self._others:
            return
        with self._lock:
            now, in_force = monotonic(), {self.of(guard) for guard in self._guards}
            awake = [
                one for one in self.pipelines()
                if one not in self._asleep and one not in in_force and not one.running and not one.spans.live()
            ]
            idle = {one for one in awake if one.is_idle}
            closing = [one for one in awake if one in idle and now - self._used.get(one, now) >= _IDLE_SECONDS]
            rest = [one for one in awake if one not in closing]
            # The oldest first, and only pipelines that lose nothing except time.
            rest.sort(key=lambda one: (one not in idle, not one.is_durable, self._used.get(one, 0.0)))
            closing += rest[: max(0, len(rest) - _MOST_IDLE)]
            self._asleep.update(closing)
            for one in [one for one in self._others.values() if one in self._asleep][:-_REMEMBERED]:
                self._asleep.discard(one)
                self._used.pop(one, None)
                self._others = {key: kept for key, kept in self._others.items() if kept is not one}
        for one in closing:
            with contain("let go of what an earlier login had"):
                if one not in idle and not one.is_durable:
                    warn_once("memory:login", "what could not be delivered with the key of an earlier login was in "
                              "memory only, and is lost")
                one.let_go()

    def after_fork(self) -> None:
        """In a forked child: no thread holds the lock."""
        self._lock = threading.RLock()

    def _find(self, settings: Settings) -> Pipeline:
        key = _key(settings)
        with self._lock:
            shared = (one for one in self._guards if one.is_shared and _key(one.settings) == key)
            found = next(shared, None) or self._others.pop(key, None)
            is_new = found is None or found in self._asleep
            found = found or self._make(settings, None)
            if found not in self._guards:
                self._others[key] = found
            self._used[found] = monotonic()
            self._asleep.discard(found)
        if is_new:
            self.let_go()
            found.neighbours.look_around_at_once()  # an earlier process may have left journals behind
            found.lookup.start(None)
        return found


def _key(settings: Settings) -> Any:
    """The key that settings have in common if they can share a pipeline."""
    return (settings.dir, *sorted(settings.destination.items()), settings.max_journal_bytes, settings.sync,
            settings.linger)


def _may_follow(pipeline: Pipeline) -> bool:
    """True if a login decides the destination for this guard's rows."""
    return pipeline.is_shared and pipeline.settings.backend in ("auto", "braintrust")
