"""The SDK's loggers that roots go to, and the project ids that they have cached."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping
from typing import Any

import braintrust
import braintrust.logger as bt
from braintrust.span_types import SpanTypeAttribute

from ..backends.project_ids import ORG_PLACEHOLDER, Identity, is_placeholder, project_name
from .gateway import Gateway
from .own_spans import as_own, without_current_span
from .spans import is_in_span

__all__ = ["Loggers"]

_MARK = "_made_by_trace_guard"


class Loggers:
    """Opens spans in the user's logger if there was one at the process's first root, else in a logger of ours."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._ours: dict[tuple[str | None, str | None], Any] = {}
        self._lock = threading.Lock()
        options = getattr(bt, "SpanInternalOptions", None)
        self._internal = frozenset(getattr(options, "__annotations__", ()))
        # The user's logger that roots go to, in a tuple once that is decided.
        self._followed: tuple[Any] | None = None

    def after_fork(self) -> None:
        """In a forked child: a thread of the parent that held the lock is not there."""
        self._lock = threading.Lock()

    def start_root(
        self,
        name: str,
        *,
        project: str | None,
        project_id: str | None,
        parent: str | Mapping[str, str] | None,
        started: float,
        ids: Mapping[str, str] | None = None,
    ) -> Any:
        """Open the root span of an invocation: below ``parent``, else below the current span, else in the logger.

        Args:
            started: in seconds since the epoch.
            ids: the ids of its row and span, and of its trace if it has no parent. A release of the SDK that takes no
                ids for a child makes it a root.

        Raises:
            Exception: whatever the SDK raises.
        """
        return as_own(self._start_root(name, project, project_id, parent, started, ids))

    def _start_root(
        self, name: str, project: str | None, project_id: str | None, parent: str | Mapping[str, str] | None,
        started: float, ids: Mapping[str, str] | None,
    ) -> Any:
        if self._followed is None:
            # Once for all: one that a handler makes for its customer's data is not to have the next customer's.
            self._followed = (self._users_logger(),)
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
        chosen = self._followed[0] or self._of(project, project_id)
        called = getattr(chosen, "_called_start_span", None)
        span = chosen.start_span(**options, **(ids or {}))
        if called is not None:
            chosen._called_start_span = called  # else the user's log() would be refused
        return span

    def start_step(self, name: str, root: Any, event: Mapping[str, Any]) -> Any:
        """Open a span of type task below the current span, else below ``root``, else where the SDK puts it.

        Raises:
            Exception: whatever the SDK raises.
        """
        options: dict[str, Any] = {"name": name, "type": SpanTypeAttribute.TASK, **event}
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

    def prepare(self, project: str | None, project_id: str | None) -> bool:
        """Have the SDK look up the project now: with the first span it would need a thread, which can't start at the
        end of the interpreter. Returns False if the user has a logger, whose project is then used."""
        theirs = self._followed[0] if self._followed is not None else self._users_logger()
        _ = (theirs or self._of(project, project_id)).id
        return theirs is None

    @staticmethod
    def _users_logger() -> Any:
        """The logger that the user has made with ``init_logger``, or None."""
        current = braintrust.current_logger()
        return None if current is None or _MARK in current.__dict__ else current

    def _of(self, project: str | None, project_id: str | None) -> Any:
        key = (project, project_id)
        found = self._ours.get(key)
        if found is None:
            with self._lock:
                found = self._ours.get(key)
                if found is None:
                    before = braintrust.current_logger()
                    # With both there is nothing that the SDK would look up, and load a client for.
                    found = braintrust.init_logger(
                        project=project or project_id, project_id=project_id or self._gateway.id_of(str(project)),
                        set_current=before is None,
                    )
                    # Tells it from a user's own, also for a guard that comes after this one.
                    found.__dict__[_MARK] = "by id" if project_id else "by name"
                    self._ours[key] = found
        return found

    def resolved(self, identity: Identity) -> None:
        """Put the real ids where the SDK has cached placeholders, so that links are right."""
        state = bt._state
        organisation = identity.organisation
        if organisation is not None and state.org_id == ORG_PLACEHOLDER:
            state.org_id, state.org_name = organisation.id, organisation.name
        for logger in self._with_cached_id():
            known = logger._lazy_metadata.get().project.id
            real = identity.project_id(project_name(known)) if is_placeholder(known) else None
            if real is not None:
                _cache_id(logger, real)

    def login_changed(self) -> None:
        """After a login of the user's, an id that was cached for a name may belong to another organisation."""
        for logger in self._with_cached_id():
            if logger.__dict__.get(_MARK) == "by name" or logger._compute_metadata_args.get("project_id") is None:
                _cache_id(logger, self._gateway.id_of(logger._lazy_metadata.get().project.name))

    def _with_cached_id(self) -> list[Any]:
        """The loggers, ours and the user's, that have cached the id of their project."""
        state = bt._state
        with getattr(state, "_client_lock", contextlib.nullcontext()):
            getattr(state, "_project_metadata_cache", {}).clear()
        known = (*self._ours.values(), *(self._followed or ()), braintrust.current_logger())
        every = {id(logger): logger for logger in known if logger is not None}
        return [logger for logger in every.values() if logger._lazy_metadata.has_succeeded]


def _cache_id(logger: Any, project_id: str) -> None:
    """Give a logger this id for its project."""
    logger._lazy_metadata.get().project.id = project_id
    logger._lazy_id = type(logger._lazy_id)(lambda: project_id, use_mutex=False)
