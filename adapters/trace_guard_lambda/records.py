"""A child span for each record of a batch."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, overload

from trace_guard.contain import contain, contained
from trace_guard.invocation.records import Record, RecordOptions, guarded_record

__all__ = ["guard_record"]

F = TypeVar("F", bound=Callable[..., Any])


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
    """Trace a record handler: each call is a span below the span that is current in the guarded invocation::

        @guard_record
        def record_handler(record): ...

        @guard_handler
        def handler(event, context):
            return process_partial_response(event, record_handler, processor, context)

    It is for plain functions and ``async def`` ones, functions and methods, a plain ``for`` loop and the batch
    processors of Powertools. Records may be dicts, Powertools' data classes or pydantic models. The span carries
    the record's ids, its attempt (``ApproximateReceiveCount``) and, as a link, the trace that the record comes
    from. What the handler raises stands on the span with its traceback and is raised on, unchanged. The root
    counts the records in ``metadata.records`` as ``done`` and ``failed``.

    Outside a guarded invocation the handler is called and nothing is traced. In a thread of a pool, which has a
    context of its own, the span is below the root; ``contextvars.copy_context().run`` gives it the handler's.

    Args:
        name: of the spans; by default the handler's own name.
        capture_input, capture_output: whether record and result are logged, redacted and cut like those of the
            invocation; by default as its guard has it.
        metadata: logged on each span.
    """
    if handler is None:
        return functools.partial(
            guard_record, name=name, capture_input=capture_input, capture_output=capture_output, metadata=metadata
        )
    with contain("prepare to describe records"):  # at import, where nobody waits for it, and only if it is used
        from . import record_facts  # noqa: F401
    return guarded_record(handler, RecordOptions(name, capture_input, capture_output, metadata), _described)


def _described(record: Any) -> Record:
    from .record_facts import facts_of_record, plain_record

    plain = contained("read a record", lambda: plain_record(record), {})
    return Record(contained("describe a record", lambda: facts_of_record(plain), {}), plain or record)
