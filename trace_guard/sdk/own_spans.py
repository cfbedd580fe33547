"""Decides which new spans become children of the guard's span: only those that the SDK would log to the same object.

Inside an invocation the guard's root is the SDK's current span, and the SDK makes the current span the parent of
the next span. That is right for project logs of the same project. A case of an experiment, a span of another
project's logger, or a span that continues another trace belongs elsewhere, and starts there as it would without the
guard. Spans that the user has started keep the SDK's own rules.

The functions that are replaced here have the same names and meaning from 0.4 to 0.48.
"""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol

import braintrust
import braintrust.logger as bt
from braintrust.util import LazyValue

from ..contain import contain
from .call_state import CallState
from .project_id import ProjectId, hidden
from .replacements import Replacements
from .unsent import IS_UNSENT

__all__ = ["OwnSpans", "SpanListener", "as_own", "without_current_span"]

_MARK = "_trace_guard_parent_context"
_PARENT_LOOKUPS = ("_get_span_parent_object_and_propagated_state", "get_span_parent_object")

# The methods of a logger that use its project's id.
_LOGGER_METHODS = ("_start_span_impl", "export", "log_feedback", "update_span")

_is_hidden: ContextVar[bool] = ContextVar("trace_guard_hides_current_span", default=False)


class SpanListener(Protocol):
    """Is called when spans start."""

    def span_started(self, span: Any) -> None:
        """The SDK has opened a span; its rows may be on their way."""

    def project_id(self, name: str) -> str | None:
        """The id of a project, if it is known."""

    @property
    def lookup(self) -> Any:
        """Looks up the organisation and projects of the login; None without a guard."""


def as_own(span: Any) -> Any:
    """Mark a span as the guard's own, and return it."""
    if span is not bt.NOOP_SPAN:
        span.__dict__[_MARK] = (bt._state.current_parent.get(),)
    return span


@contextlib.contextmanager
def without_current_span() -> Iterator[None]:
    """Have the SDK choose a parent as if no span were current."""
    token = _is_hidden.set(True)
    try:
        yield
    finally:
        _is_hidden.reset(token)


class OwnSpans:
    """Replaces the functions by which the SDK finds the parent of a span."""

    def __init__(self, listener: SpanListener) -> None:
        self._listener = listener
        self._replacements = Replacements()

    def install(self) -> None:
        """Put the replacements in; a second call does nothing."""
        if self._replacements:
            return
        replace = self._replacements.replace
        replace(bt, "get_caller_location", self._caller_location)
        for module in (bt, braintrust):
            replace(module, "current_span", self._current_span)
        for name in _PARENT_LOOKUPS:
            replace(bt, name, self._parent_lookup)
        # It has imported the name.
        replace(sys.modules["braintrust.functions.invoke"], "get_span_parent_object", self._parent_lookup)
        if "lookup_span_parent" in inspect.signature(bt.SpanImpl.__init__).parameters:
            replace(bt.SpanImpl, "__init__", self._open)
        for name in _LOGGER_METHODS:
            replace(bt.Logger, name, self._with_hidden_id)
        replace(bt.Logger, "_emit_log_record", self._emit_log)  # in releases that have it

    def uninstall(self) -> None:
        """Put the SDK's own functions back."""
        self._replacements.undo()

    def _caller_location(self, plain: Callable[[], Any]) -> Callable[[], Any]:
        def get_caller_location() -> Any:
            with contain("find where a span was started"):
                frame = inspect.currentframe()
                while frame is not None and _is_internal(frame.f_globals.get("__name__") or "braintrust."):
                    frame = frame.f_back
                return None if frame is None else {
                    "caller_functionname": frame.f_code.co_name, "caller_filename": frame.f_code.co_filename,
                    "caller_lineno": frame.f_lineno,
                }
            return plain()

        return get_caller_location

    def _current_span(self, plain: Callable[[], Any]) -> Callable[[], Any]:
        return lambda: bt.NOOP_SPAN if _is_hidden.get() or IS_UNSENT.get() else plain()

    def _parent_lookup(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        finds_both = plain.__name__ == _PARENT_LOOKUPS[0]

        def look_up(parent: Any = None, state: Any = None) -> Any:
            if IS_UNSENT.get() and not parent:
                return (bt.NOOP_SPAN, None) if finds_both else bt.NOOP_SPAN
            elsewhere = False
            with contain("choose the parent of a span"):
                elsewhere = self._starts_elsewhere(parent, state)
            if not elsewhere:
                return plain(parent, state)
            token = _is_hidden.set(True)
            try:
                return plain(parent, state)
            finally:
                _is_hidden.reset(token)

        return look_up

    def _open(self, plain: Callable[..., None]) -> Callable[..., None]:
        def open_span(span: Any, *args: Any, **options: Any) -> None:
            if not args and options.get("lookup_span_parent", True) and not options.get("parent_span_ids"):
                with contain("choose the parent of a span"):
                    if self._is_of_another_object(options):
                        options["lookup_span_parent"] = False
            with contain("hide a placeholder"):
                if "parent_object_id" in options:
                    options["parent_object_id"] = hidden(
                        options.get("parent_object_type"), options["parent_object_id"],
                        options.get("parent_compute_object_metadata_args"), self._listener,
                    )
            plain(span, *args, **options)
            with contain("note whose span has started"):
                self._listener.span_started(span)

        return open_span

    def _with_hidden_id(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def call(logger: Any, *args: Any, **options: Any) -> Any:
            with contain("hide a placeholder"):
                self._hide_id(logger)
            return plain(logger, *args, **options)

        return call

    def _hide_id(self, logger: Any) -> None:
        if logger._lazy_id.has_succeeded or isinstance(logger._lazy_id, ProjectId):
            return
        # The SDK's value asks the logger, whose answer waits for the server.
        lazy_id = LazyValue(lambda: str(logger._lazy_metadata.get().project.id), use_mutex=False)
        logger._lazy_id = hidden(
            logger._parent_object_type(), lazy_id, logger._compute_metadata_args, self._listener
        )

    def _emit_log(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def emit_log(logger: Any, *args: Any, **options: Any) -> Any:
            with contain("choose the trace of a log record"):
                own = _own_span()
                if own is not None and not self._is_same_object(
                    own, logger._parent_object_type(), logger._lazy_id, logger._compute_metadata_args
                ):
                    options["lookup_current_span"] = False
            return plain(logger, *args, **options)

        return emit_log

    def _starts_elsewhere(self, parent: Any, state: Any) -> bool:
        """True if the SDK alone would not start the span below the guard's span, which is current."""
        own = _own_span()
        if own is None:
            return False
        if parent:
            return True
        inherited = (state or bt._state).current_parent.get()
        if inherited and (inherited,) != own.__dict__[_MARK]:
            return True
        experiment: Any = bt.current_experiment()
        return experiment is not None and not self._is_same_object(
            own, experiment._parent_object_type(), experiment._lazy_id, None
        )

    def _is_of_another_object(self, options: dict[str, Any]) -> bool:
        own = _own_span()
        state = options.get("state")
        if own is not None and isinstance(state, CallState):
            return own.state is not state
        if own is None or state not in (None, bt._state):
            return False
        return not self._is_same_object(
            own, options["parent_object_type"], options["parent_object_id"],
            options.get("parent_compute_object_metadata_args"),
        )

    def _is_same_object(self, own: Any, kind: Any, object_id: Any, named: dict[str, Any] | None) -> bool:
        if kind != own.parent_object_type:
            return False
        if object_id is own.parent_object_id:
            return True
        known = self._known_id(object_id, named)
        its = self._known_id(own.parent_object_id, own.parent_compute_object_metadata_args)
        if known is not None and its is not None:
            return known == its
        name, its_name = ((one or {}).get("project_name") for one in (named, own.parent_compute_object_metadata_args))
        return name is not None and name == its_name

    def _known_id(self, object_id: Any, named: dict[str, Any] | None) -> str | None:
        """The id of the object that a span belongs to, if it is known without asking the server."""
        if object_id.has_succeeded:
            return str(object_id.get())
        named = named or {}
        if named.get("project_id"):
            return str(named["project_id"])
        return self._listener.project_id(named["project_name"]) if named.get("project_name") else None


def _own_span() -> Any:
    """The current span if it is one of the guard's, else None."""
    current: Any = bt.current_span()
    return current if _MARK in getattr(current, "__dict__", ()) else None


def _is_internal(module: str) -> bool:
    return module.startswith(("braintrust.", "trace_guard.")) or module == "functools"
