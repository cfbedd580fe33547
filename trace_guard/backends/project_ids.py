"""Finds the organisation and project of rows without waiting for the network.

The SDK needs a project id in every row, but users usually give a name. The id comes from the settings, a cache on
disk, or a look-up that was started early. Until then rows carry a *placeholder* with the name, which the courier
replaces with the id when it delivers.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ..contain import contain, logger, warn_once
from ..journal.owned import UnsafeFile, create_file, own_directory, read_file
from .urls import is_web_url

__all__ = ["Organisation", "ProjectIds", "is_placeholder", "placeholder", "project_name"]

_CACHE_BYTES = 1024 * 1024
_PROJECT = "trace-guard:project:"
ORG_PLACEHOLDER = "trace-guard:organisation"
ORG_NAME_PLACEHOLDER = "trace-guard:name-of-organisation"
_LONGEST_NAME = 1024


def placeholder(name: str) -> str:
    """The value that stands for the id of the project with this name."""
    return _PROJECT + name


def is_placeholder(project_id: object) -> bool:
    return isinstance(project_id, str) and project_id.startswith(_PROJECT)


def project_name(project_id: str) -> str:
    """The project's name in a placeholder."""
    return project_id[len(_PROJECT) :]


class Organisation(NamedTuple):
    """The organisation of a key, as the login names it."""

    id: str
    name: str
    api_url: str | None = None

    @property
    def is_usable(self) -> bool:
        """False if a field has the wrong type, or if the API URL is not an HTTP URL."""
        texts = all(isinstance(text, str) and 0 < len(text) <= _LONGEST_NAME for text in (self.id, self.name))
        return texts and (self.api_url is None or is_web_url(self.api_url))


class ProjectIds:
    """What is known of the organisation and its projects, kept on disk for the next process.

    Args:
        path: the cache's file, or None to keep it in memory only. It holds names and ids, never a key; one
            file for each destination.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._lock = threading.Lock()
        self._organisation: Organisation | None = None
        self._projects: dict[str, str] = {}
        self._listeners: list[Callable[[], None]] = []
        self.open(path)

    def open(self, path: Path | None) -> None:
        """Use this cache from now on."""
        self._path = path
        self._load()

    @property
    def organisation(self) -> Organisation | None:
        return self._organisation

    def project_id(self, name: str) -> str | None:
        """The id of a project, if it is known."""
        return self._projects.get(name)

    def name_of(self, project_id: str) -> str | None:
        """The name of a project, if its id is known."""
        return next((name for name, known in self._projects.items() if known == project_id), None)

    def learn_organisation(self, organisation: Organisation) -> None:
        """Store the organisation, unless its API URL must not receive a key."""
        if organisation != self._organisation and organisation.is_usable:
            self._organisation = organisation
            self._learned()

    def learn_project(self, name: str, project_id: str) -> None:
        if self._projects.get(name) != project_id:
            self._projects[name] = project_id
            self._learned()

    def after_fork(self) -> None:
        """Replace the lock, which a thread of the parent may have held. Called in a forked child."""
        self._lock = threading.Lock()

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever an id or organisation becomes known."""
        self._listeners.append(listener)

    def _learned(self) -> None:
        self._save()
        for listener in self._listeners:
            with contain("make known what a look-up has found"):
                listener()

    def _load(self) -> None:
        if self._path is None:
            return
        try:
            cached: Any = json.loads(read_file(self._path, _CACHE_BYTES, private=True))
            organisation, projects = cached["organisation"], dict(cached["projects"])
            texts = [*(organisation or {}).values(), *projects, *projects.values()]
            if not all(isinstance(one, str) for one in texts if one is not None):
                raise ValueError("its fields are not texts")
            known = Organisation(**organisation) if organisation else None
            self._organisation = known if known is not None and known.is_usable else None
            self._projects = projects
        except FileNotFoundError:
            return
        except UnsafeFile as error:
            warn_once(f"unsafe:{self._path}", "a cache is not used: %s", error)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            logger.debug("the cache %s can't be read and is made anew: %s", self._path, error)

    def _save(self) -> None:
        """Write the cache. If the disk fails, the only cost is another look-up."""
        if self._path is None:
            return
        organisation = self._organisation._asdict() if self._organisation else None
        text = json.dumps({"organisation": organisation, "projects": self._projects})
        with self._lock:
            temporary = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            try:
                own_directory(self._path.parent)
                temporary.unlink(missing_ok=True)
                with open(create_file(temporary), "wb") as file:
                    file.write(text.encode())
                os.replace(temporary, self._path)
            except OSError as error:
                logger.debug("the cache %s can't be written: %s", self._path, error)
                with contextlib.suppress(OSError):
                    temporary.unlink()
