"""``Eval(no_send_logs=True)`` sends nothing: its spans are not logged only because an invocation is around it.

With the SDK alone such an evaluation has no spans unless user code has named a place for them: a logger, an experiment
or a parent. The guard's root and logger are no such place.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import Any

import braintrust.logger as bt

from ..contain import contained
from .replacements import Replacements

__all__ = ["IS_UNSENT", "Unsent"]

IS_UNSENT: ContextVar[bool] = ContextVar("trace_guard_unsent", default=False)
"""True in the code of an evaluation that sends nothing."""


class _UnsentSpan(bt._NoopSpan):
    """The span of a case, within which no span is logged."""

    _token: Token[bool] | None = None

    def start_span(self, *args: Any, **options: Any) -> Any:
        return _UnsentSpan()

    def __enter__(self) -> Any:
        self._token = IS_UNSENT.set(True)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._token is not None:
            IS_UNSENT.reset(self._token)


class Unsent:
    """Replaces the function by which the SDK starts the span of a case without an experiment.

    Args:
        users_logger: returns the logger that user code has made, or None.
    """

    def __init__(self, users_logger: Callable[[], Any]) -> None:
        self._users_logger = users_logger
        self._replacements = Replacements()

    def install(self) -> None:
        """Put the replacement in; a second call does nothing."""
        framework = sys.modules.get("braintrust.framework")
        if framework is not None and not self._replacements:
            self._replacements.replace(framework, "start_span", self._start_case)

    def uninstall(self) -> None:
        """Put the SDK's own function back."""
        self._replacements.undo()

    def _start_case(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        def start_span(*args: Any, **options: Any) -> Any:
            if contained("find where an evaluation is logged", lambda: self._has_place(options), True):
                return plain(*args, **options)
            return _UnsentSpan()

        return start_span

    def _has_place(self, options: dict[str, Any]) -> bool:
        state = options.get("state") or bt._state
        return bool(
            options.get("parent") or state.current_parent.get() or bt.current_experiment()
            or self._users_logger() is not None or state is not bt._state
        )
