"""A child span for each message of a batch, by a decorator."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from trace_guard.contain import contain, contained
from trace_guard.invocation.records import Record, RecordOptions, guarded_record

from . import batches
from .declaration import NOTHING_DECLARED
from .triggers import trigger_of

__all__ = ["guard_record"]

F = TypeVar("F", bound=Callable[..., Any])

# Of what is said of an input, so much is read; the invocation's guard cuts it to its own measure.
_ROOM = 1 << 16


@overload
def guard_record(handler: F) -> F: ...


@overload
def guard_record(
    *,
    name: str | None = ...,
    capture_input: bool | None = ...,
    capture_output: bool | None = ...,
    metadata: Mapping[str, Any] | None = ...,
) -> Callable[[F], F]: ...


def guard_record(
    handler: Callable[..., Any] | None = None,
    *,
    name: str | None = None,
    capture_input: bool | None = None,
    capture_output: bool | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> Any:
    """Trace a function that is called for each message of a batch: each call is a span below the root::

        @guard_record
        async def classify(event): ...

        @app.event_hub_message_trigger(arg_name="events", cardinality="many", ...)
        @guard_handler
        async def on_events(events: List[func.EventHubEvent]):
            await asyncio.gather(*(classify(event) for event in events))

    It is for messages that are done with at once, in tasks or in threads. Without it in the app, each step of a plain
    ``for`` loop over the messages is a span; with it the loop is left alone. The span has the message's ids, its
    attempt and, as a link, the trace that it comes from. What the function raises stands on the span and is raised on,
    unchanged. The root counts the messages in ``metadata.records`` as ``done`` and ``failed``.

    Outside a guarded invocation the function is called and nothing is traced. In a thread of a pool, which has a
    context of its own, the span is below the root; ``contextvars.copy_context().run`` gives it the function's.

    Args:
        name: of the spans; by default the function's own name.
        capture_input, capture_output: whether message and result are logged, redacted and cut like those of the
            invocation; by default as its guard has it.
        metadata: logged on each span.
    """
    if handler is None:
        return functools.partial(
            guard_record, name=name, capture_input=capture_input, capture_output=capture_output, metadata=metadata
        )
    with contain("leave the loop over a batch to the function for a message"):
        batches.leave_loops_alone()
    return guarded_record(handler, RecordOptions(name, capture_input, capture_output, metadata), _described)


def _described(message: Any) -> Record:
    trigger = contained("tell a message's kind", lambda: trigger_of(NOTHING_DECLARED, message), None)
    return batches.described(trigger, message, _ROOM)
