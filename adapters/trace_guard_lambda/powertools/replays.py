"""Answers that Powertools' idempotency has replayed.

https://docs.aws.amazon.com/powertools/python/latest/utilities/idempotency/#manipulating-the-idempotent-response
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
    """Mark answers that ``@idempotent`` and ``@idempotent_function`` replay in their traces::

        config = tag_replays(IdempotencyConfig(event_key_jmespath="body"))

        @guard_handler
        @idempotent(persistence_store=store, config=config)
        def lambda_handler(event, context): ...

    ``metadata.idempotency.replayed`` is set on the root of an invocation whose result is replayed, and on the span in
    which a function's answer is replayed. The root counts the replays as ``metadata.idempotency.replays``. The config's
    present ``response_hook`` is still called.

    With ``@idempotent`` above ``@guard_handler``, a replay does not reach the guard. The hook then traces it as an
    invocation without input.

    Args:
        config: an ``IdempotencyConfig`` of Powertools. It is changed.
        keywords: of :func:`trace_guard_lambda.guard_handler`, for replays that the hook traces. Pass the same keywords
            to both.

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
    """Powertools calls it with a stored answer and the store's record, and uses its result as the answer."""

    def __init__(self, config: Any, hook: Any, keywords: dict[str, Any]) -> None:
        self._config = config
        self._hook = hook
        # The argument of ``_answer`` is not the event, which is not available here.
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
    import braintrust  # an invocation is live, so it has been imported

    replayed = {"idempotency": {"replayed": True}}
    invocation.count("idempotency", "replays")
    span: Any = braintrust.current_span()
    if span is not PROCESS.sdk.no_span and span.id != invocation.span.id:
        span.log(metadata=replayed)

    def judge(invocation: Invocation, result: Any) -> None:
        if result is answer:
            invocation.note(replayed)

    judge_also(invocation, judge)
