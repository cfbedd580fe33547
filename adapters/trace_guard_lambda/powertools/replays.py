"""Answers that Powertools' idempotency has replayed.

What it stands on: https://docs.aws.amazon.com/powertools/python/latest/utilities/idempotency/#manipulating-the-idempotent-response
"""

from __future__ import annotations

from typing import Any, TypeVar

from trace_guard import Invocation
from trace_guard.contain import contain
from trace_guard.invocation.invocation import live_invocation
from trace_guard.runtime.state import PROCESS

from ..handler import guard_handler
from .judging import judge_also

__all__ = ["tag_replays"]

C = TypeVar("C")


def tag_replays(config: C, **keywords: Any) -> C:
    """Have traces tell which answers were replayed by ``@idempotent`` and ``@idempotent_function``::

        config = tag_replays(IdempotencyConfig(event_key_jmespath="body"))

        @guard_handler
        @idempotent(persistence_store=store, config=config)
        def lambda_handler(event, context): ...

    The root of an invocation whose result was replayed has ``metadata.idempotency.replayed``, and the span in which
    a function was replayed has it too. The root counts the replays as ``metadata.idempotency.replays``. A
    ``response_hook`` that the config has already is called as before.

    With ``@idempotent`` above ``@guard_handler`` a replay does not reach the guard: it is then traced from here, as
    an invocation without input.

    Args:
        config: of Powertools, an ``IdempotencyConfig``; it is changed.
        keywords: those of :func:`trace_guard_lambda.guard_handler`, for the replays that are traced from here; give
            them as they are given there.

    Returns:
        the config itself.

    Raises:
        SettingsError: a keyword's value is not accepted.
    """
    hook = getattr(config, "response_hook", None)
    if not isinstance(hook, _ReplayHook):
        config.response_hook = _ReplayHook(config, hook, keywords)  # type: ignore[attr-defined]
    return config


class _ReplayHook:
    """Called by Powertools with an answer of its store and the store's record of it; what it returns is the
    answer."""

    def __init__(self, config: Any, hook: Any, keywords: dict[str, Any]) -> None:
        self._config = config
        self._hook = hook
        # Its argument is no event of the user's, whose input is not at hand here.
        self._guarded: Any = guard_handler(**{**keywords, "capture_input": False})(self._answer)

    def __call__(self, response: Any, record: Any) -> Any:
        context = self._config.lambda_context
        if live_invocation() is None and context is not None:
            return self._guarded((response, record), context)
        return self._answer((response, record))

    def _answer(self, stored: tuple[Any, Any], context: Any = None) -> Any:
        response, record = stored
        answer = response if self._hook is None else self._hook(response, record)
        with contain("tag a replayed answer"):
            invocation = live_invocation()
            if invocation is not None:
                _tag(invocation, answer)
        return answer


def _tag(invocation: Invocation, answer: Any) -> None:
    import braintrust  # an invocation is live, so that it has been imported

    replayed = {"idempotency": {"replayed": True}}
    invocation.count("idempotency", "replays")
    span: Any = braintrust.current_span()
    if span is not PROCESS.sdk.no_span and span.id != invocation.span.id:
        span.log(metadata=replayed)

    def judge(invocation: Invocation, result: Any) -> None:
        if result is answer:
            invocation.note(replayed)

    judge_also(invocation, judge)
