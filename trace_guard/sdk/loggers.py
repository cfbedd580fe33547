"""The SDK's loggers that roots go to, and the project ids that they have cached."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

import braintrust
import braintrust.logger as bt
from braintrust.span_types import SpanTypeAttribute
from braintrust.util import LazyValue

from ..backends.project_ids import ORG_PLACEHOLDER, is_placeholder, placeholder, project_name
from .gateway import Gateway
from .host import ProjectLookup
from .making_rows import making_rows
from .own_spans import as_own, without_current_span
from .project_id import hidden
from .spans import is_in_span

__all__ = ["Loggers"]

_MARK = "_made_by_trace_guard"


class Loggers:
    """Opens spans in the user's logger if it existed at the process's first root, else in the guard's logger."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # By destination, as projects of the same name have a different id in each.
        self._ours: WeakKeyDictionary[ProjectLookup, dict[tuple[str | None, str | None], Any]] = WeakKeyDictionary()
        self._lock = threading.Lock()
        options = getattr(bt, "SpanInternalOptions", None)
        self._internal = frozenset(getattr(options, "__annotations__", ()))
        # The user's logger for roots, or None, and the global state that it was decided for: a test may reset that.
        self._followed: Any = None
        self._followed_in: Any = None

    def after_fork(self) -> None:
        """In a forked child: a parent's thread that held a lock does not exist here."""
        self._lock = threading.Lock()
        ours = (logger for known in tuple(self._ours.values()) for logger in tuple(known.values()))
        for logger in (*ours, *self._users_loggers()):
            lazy: Any = getattr(logger, "_lazy_metadata", None)
            if getattr(lazy, "mutex", None) is not None:
                lazy.mutex = threading.Lock()

    def start_root(
        self,
        name: str,
        lookup: ProjectLookup,
        *,
        project: str | None,
        project_id: str | None,
        parent: str | Mapping[str, str] | None,
        started: float,
        ids: Mapping[str, str] | None = None,
    ) -> Any:
        """Open the root span of an invocation: below ``parent``, else below the current span, else in the logger.

        Args:
            lookup: knows the projects of the destination.
            started: in seconds since the epoch.
            ids: the ids of its row and span, and of its trace if it has no parent. A release of the SDK that takes no
                ids for a child makes it a root.

        Raises:
            Exception: whatever the SDK raises.
        """
        return as_own(self._start_root(name, lookup, project, project_id, parent, started, ids))

    def _start_root(
        self, name: str, lookup: ProjectLookup, project: str | None, project_id: str | None,
        parent: str | Mapping[str, str] | None, started: float, ids: Mapping[str, str] | None,
    ) -> Any:
        if self._followed_in is not bt._state:
            # Decided once: a logger that a handler creates for one customer must not receive the next customer's data.
            self._followed, self._followed_in = self.users_logger(), bt._state
        options: dict[str, Any] = {"name": name, "start_time": started}
        if "skip_initial_span_write" in self._internal:
            options["internal"] = {"skip_initial_span_write": True}
        if parent is not None and ids is not None and "span_id" in self._internal:
            options.update(id=ids["id"], internal={**options.get("internal", {}), "span_id": ids["span_id"]})
            ids = None
        if parent is not None and ids is None:
            with without_current_span():  # which may be of another object
                return braintrust.start_span(
                    parent=parent if isinstance(parent, str) else dict(parent),  # type: ignore[arg-type,unused-ignore]
                    type=SpanTypeAttribute.TASK,
                    **options,
                )
        if is_in_span() and ids is None:
            return braintrust.current_span().start_span(**options)
        chosen = self._followed or self._of(lookup, project, project_id)
        if "skip_initial_span_write" not in self._internal:
            with making_rows():
                chosen._lazy_id.get()  # the span logs a row at once, which then need not take the SDK's queue
        called = getattr(chosen, "_called_start_span", None)
        span = chosen.start_span(**options, **(ids or {}))
        if called is not None:
            chosen._called_start_span = called  # else the user's log() would be refused
        return span

    def start_step(self, name: str, root: Any, event: Mapping[str, Any], started: float) -> Any:
        """Open a span of type task below the current span, else below ``root``, else where the SDK puts it.

        Args:
            started: in seconds since the epoch.

        Raises:
            Exception: whatever the SDK raises.
        """
        options: dict[str, Any] = {"name": name, "type": SpanTypeAttribute.TASK, "start_time": started, **event}
        if is_in_span():
            return as_own(braintrust.current_span().start_span(**options))
        return as_own(braintrust.start_span(**options) if root is None else root.start_span(**options))

    def start_record(self, name: str, root: Any, event: Mapping[str, Any]) -> Any:
        """Open the span of a record below the current span, else below ``root``.

        Raises:
            Exception: whatever the SDK raises.
        """
        parent = braintrust.current_span() if is_in_span() else root
        return as_own(parent.start_span(name=name, type=SpanTypeAttribute.TASK, **event))

    def prepare(self, lookup: ProjectLookup, project: str | None, project_id: str | None) -> bool:
        """Have the SDK look up the project now: with the first span it would need a thread, which can't start at the
        end of the interpreter. Returns False if the user has a logger, whose project is then used."""
        theirs = self._followed if self._followed_in is bt._state else self.users_logger()
        with making_rows():
            (theirs or self._of(lookup, project, project_id))._lazy_metadata.get()
        return theirs is None

    @staticmethod
    def users_logger() -> Any:
        """The logger that the user has made with ``init_logger`` for the global state, or None."""
        current = braintrust.current_logger()
        return current if _is_usable(current) and _MARK not in current.__dict__ else None

    def users_project(self) -> tuple[str, ...]:
        """The name and the id that the user has given for the project of their logger, as far as given."""
        logger = self.users_logger()
        given = getattr(logger, "_compute_metadata_args", None) or {}
        return tuple(str(given[key]) for key in ("project_name", "project_id") if given.get(key))

    def resolve_users_logger(self) -> None:
        """Make the user's logger log in now instead of with its first span."""
        logger = self.users_logger()
        if logger is not None and not logger._lazy_metadata.has_succeeded:
            with making_rows():
                logger._lazy_metadata.get()

    def _of(self, lookup: ProjectLookup, project: str | None, project_id: str | None) -> Any:
        key = (project, project_id)
        known = self._ours.get(lookup, {})
        if not _is_usable(known.get(key)):
            with self._lock:
                known = self._ours.setdefault(lookup, {})
                if not _is_usable(known.get(key)):
                    before, ids = braintrust.current_logger(), bt._state.__dict__.get("_id_generator")
                    # With both, the SDK needs no look-up and loads no client.
                    made = braintrust.init_logger(
                        project=project or project_id, project_id=project_id or _id_of(lookup, str(project)),
                        set_current=before is None,
                    )
                    if ids is None:  # the user's code may still choose the kind of ids, before its first span
                        bt._state.__dict__["_id_generator"] = None
                    if project and not project_id:
                        # The values that the SDK alone would return until the id is known.
                        made._compute_metadata_args = {"project_name": project, "project_id": None}
                        made._link_args = {**(made._link_args or {}), "project_id": None}
                        _hide_id(made, made._lazy_id, lookup)
                    # Distinguishes it from a user's logger, also for later guards.
                    made.__dict__[_MARK] = "by id" if project_id else "by name"
                    known[key] = made
        return known[key]

    def resolved(self, lookup: ProjectLookup, *, is_login: bool) -> None:
        """Put the real ids where the SDK has cached placeholders, so that links are right.

        Args:
            is_login: the destination is that of the global state's login, and so of the user's loggers.
        """
        state, organisation = bt._state, lookup.organisation
        if is_login and organisation is not None and state.org_id == ORG_PLACEHOLDER:
            state.org_id, state.org_name = organisation.id, organisation.name
        ours = tuple(self._ours.get(lookup, {}).values())
        for logger in self._with_cached_id(ours + self._users_loggers() if is_login else ours):
            cached = logger._lazy_metadata.get().project.id
            real = lookup.project_id(project_name(cached)) if is_placeholder(cached) else None
            if real is not None:
                _cache_id(logger, real, lookup)

    def login_changed(self) -> None:
        """After a login of the user's, an id that a logger of theirs has cached may be another organisation's. The
        same holds for one of ours if it is the current logger."""
        loggers, current, lookup = self._users_loggers(), braintrust.current_logger(), self._gateway.host.lookup
        if current is not None and current.__dict__.get(_MARK) == "by name" and lookup is not None:
            loggers += (current,)
            for known in tuple(self._ours.values()):
                for key in [key for key, logger in known.items() if logger is current]:
                    self._ours.setdefault(lookup, {})[key] = known.pop(key)
        for logger in self._with_cached_id(loggers):
            if logger.__dict__.get(_MARK) == "by name" or logger._compute_metadata_args.get("project_id") is None:
                _cache_id(logger, self._gateway.id_of(logger._lazy_metadata.get().project.name), lookup)

    def _users_loggers(self) -> tuple[Any, ...]:
        return (self._followed, self.users_logger())

    @staticmethod
    def _with_cached_id(loggers: Iterable[Any]) -> list[Any]:
        """The loggers that have cached the id of their project."""
        state = bt._state
        with getattr(state, "_client_lock", contextlib.nullcontext()):
            getattr(state, "_project_metadata_cache", {}).clear()
        every = {id(logger): logger for logger in loggers if logger is not None}
        return [logger for logger in every.values() if logger._lazy_metadata.has_succeeded]


def _is_usable(logger: Any) -> bool:
    """True if it is a logger of the SDK's present global state."""
    return logger is not None and getattr(logger, "state", bt._state) is bt._state


def _id_of(lookup: ProjectLookup, name: str) -> str:
    """The project id that a logger is made with; see :meth:`.Gateway.id_of`."""
    known = lookup.project_id(name)
    return placeholder(name) if known in (None, name) else str(known)


def _cache_id(logger: Any, project_id: str, lookup: ProjectLookup | None) -> None:
    """Give a logger this id for its project."""
    logger._lazy_metadata.get().project.id = project_id
    _hide_id(logger, LazyValue(lambda: project_id, use_mutex=False), lookup)


def _hide_id(logger: Any, lazy_id: Any, lookup: ProjectLookup | None) -> None:
    logger._lazy_id = lazy_id if lookup is None else hidden(
        logger._parent_object_type(), lazy_id, logger._compute_metadata_args, lookup
    )
