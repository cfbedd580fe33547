"""A child span for each record of a batch, on any platform.

A platform hands its function a whole batch, so no wrapper sees the work on a single record. User code marks that work:
with a decorator on the function that handles one record, or with a helper around the records of a loop.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncIterable, Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar, overload

from ..contain import contain, contained
from ..runtime.state import PROCESS
from ..settings import Capture, checked
from .captured import captured
from .invocation import NOTHING, Invocation, live_invocation
from .misuse import check_decorated
from .record_loop import AsyncRecords, RecordLoop, Records
from .wrap import around

__all__ = ["Record", "RecordGuard", "RecordOptions", "RecordSpan"]

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")


class Record(NamedTuple):
    """The description of a record for its span.

    Attributes:
        facts: the span's metadata, never the record's content.
        input: the span's input.
    """

    facts: Mapping[str, Any]
    input: Any


class RecordOptions(NamedTuple):
    """How records are traced.

    Attributes:
        name: of the spans; None for the default.
        capture_input, capture_output: whether the record and the result are logged, redacted and cut like those of
            the invocation, or functions of them; None for the setting of the invocation's guard.
        metadata: logged on each span.
    """

    name: str | None = None
    capture_input: Capture | None = None
    capture_output: Capture | None = None
    metadata: Mapping[str, Any] | None = None

    @classmethod
    def checked(
        cls, name: str | None, capture_input: Any, capture_output: Any, metadata: Mapping[str, Any] | None
    ) -> RecordOptions:
        """The options from the keywords of a helper.

        Raises:
            SettingsError: a keyword's value is not accepted.
        """
        return cls(
            name,
            None if capture_input is None else checked("capture_input", capture_input),
            None if capture_output is None else checked("capture_output", capture_output),
            metadata,
        )


class RecordSpan:
    """The span of one record. It is current from its creation until it is ended in the same context.

    Args:
        describe: returns the description of the record.

    Attributes:
        invocation: the invocation that the record belongs to.
    """

    def __init__(
        self, invocation: Invocation, name: str, options: RecordOptions, describe: Callable[[], Record]
    ) -> None:
        self.invocation = invocation
        self._guard = invocation.guard
        settings = self._guard.settings
        self._capture_output = settings.capture_output if options.capture_output is None else options.capture_output
        capture_input = settings.capture_input if options.capture_input is None else options.capture_input
        record = contained("describe a record", describe, Record({}, NOTHING))
        event: dict[str, Any] = {"metadata": {**record.facts, **(options.metadata or {})}}
        if (input := captured(self._guard, capture_input, record.input, "capture_input")) is not NOTHING:
            event["input"] = input
        self._span = PROCESS.sdk.loggers.start_record(name, invocation.span, event)
        self._span.set_current()

    def close(self, error: BaseException | None = None, *, output: Any = NOTHING) -> None:
        """Close the span and count the record.

        Args:
            error: the exception that handling the record raised; None without an exception.
            output: the result of handling the record.
        """
        if error is not None:
            self.log_error(error)
        else:
            with contain("log a record's result"):
                output = captured(self._guard, self._capture_output, output, "capture_output")
                if output is not NOTHING:
                    self._span.log(output=output)
        self.end()
        self.count("done" if error is None else "failed")

    async def aclose(self, error: BaseException | None = None, *, output: Any = NOTHING) -> None:
        self.close(error, output=output)

    def log_error(self, error: BaseException) -> None:
        with contain("log a record's error"):
            self._span.log(error=PROCESS.sdk.error_text(error))

    def leave(self) -> None:
        """Make the previous span current again."""
        with contain("leave a record's span"):
            self._span.unset_current()

    def end(self) -> None:
        """Close the span before it is known whether the record was handled."""
        self.leave()
        with contain("close a record's span"):
            self._span.end()

    def count(self, outcome: str) -> None:
        """Count the record on the root, as ``done`` or ``failed``."""
        self.invocation.count("records", outcome)


class RecordGuard:
    """The two helpers of an adapter: :meth:`guard_record` for a function, :meth:`guard_records` for a loop.

    Args:
        describe: returns the description of a record of this platform.
        name: of the spans of a loop.
    """

    def __init__(self, describe: Callable[[Any], Record], name: str = "record") -> None:
        self._describe = describe
        self._name = name

    @overload
    def guard_record(self, handler: F) -> F: ...

    @overload
    def guard_record(
        self,
        *,
        name: str | None = ...,
        capture_input: Capture | None = ...,
        capture_output: Capture | None = ...,
        metadata: Mapping[str, Any] | None = ...,
    ) -> Callable[[F], F]: ...

    def guard_record(
        self,
        handler: Any = NOTHING,
        *,
        name: str | None = None,
        capture_input: Capture | None = None,
        capture_output: Capture | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """Trace a function that handles one record: each call is a span below the current span of the invocation::

            @guard_record
            def record_handler(record): ...

            @guard_handler
            def handler(event, context):
                return process_partial_response(event, record_handler, processor, context)

        It works on functions and methods, plain or ``async def``. The span has the record's ids, its attempt and a link
        to the trace that the record comes from. An exception is recorded on the span with its traceback and raised
        unchanged. The root counts the records in ``metadata.records`` as ``done`` and ``failed``.

        Outside a guarded invocation, the function runs untraced. The threads of a pool have contexts of their own, so
        there the span is a child of the root. Use ``contextvars.copy_context().run`` to pass the handler's context.

        Args:
            name: of the spans; by default the function's own name.
            capture_input, capture_output: whether the record and the result are logged, redacted and cut like those of
                the invocation, or functions that get them and return what is logged; by default as the invocation's
                guard is configured.
            metadata: logged on each span.

        Raises:
            TypeError: the decorated object is not a function.
            SettingsError: a keyword's value is not accepted.
        """
        if handler is NOTHING:
            return functools.partial(
                self.guard_record, name=name, capture_input=capture_input, capture_output=capture_output,
                metadata=metadata,
            )
        check_decorated(handler, "guard_record")
        options = RecordOptions.checked(name, capture_input, capture_output, metadata)
        chosen = name or getattr(handler, "__name__", None) or "record"
        record_in = contained("read the signature of a record handler", lambda: _record_in(handler), _first)

        def open_span(args: tuple[Any, ...], keywords: dict[str, Any]) -> RecordSpan | None:
            with contain("begin a record's span"):
                return self._opened(live_invocation(), chosen, options, lambda: record_in(args, keywords))
            return None

        return around(handler, open_span)

    @overload
    def guard_records(
        self,
        records: Iterable[T],
        *,
        name: str | None = ...,
        capture_input: Capture | None = ...,
        metadata: Mapping[str, Any] | None = ...,
    ) -> Iterable[T]: ...

    @overload
    def guard_records(
        self,
        records: AsyncIterable[T],
        *,
        name: str | None = ...,
        capture_input: Capture | None = ...,
        metadata: Mapping[str, Any] | None = ...,
    ) -> AsyncIterable[T]: ...

    def guard_records(
        self,
        records: Iterable[T] | AsyncIterable[T],
        *,
        name: str | None = None,
        capture_input: Capture | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Iterable[T] | AsyncIterable[T]:
        """Trace a loop over records: each step is a span below the current span of the invocation::

            for record in guard_records(event["Records"]):
                handle(record)

        The span is current in the body of the loop and ends when the loop asks for the next record or is left. It has
        the same metadata as the spans of :func:`guard_record`. The root counts the records in ``metadata.records``.

        ``async for`` works the same way over an asynchronous iterable. Records are taken one at a time, so an iterator
        or a generator is consumed lazily. The result can only be iterated: use ``len(records)`` and ``records[0]`` on
        the records themselves.

        An exception that leaves the loop and ends the invocation is recorded on the span of the record that raised it.
        A loop that is left by ``break`` or ``return`` has handled its last record. An exception that leaves the loop
        and is caught outside it is not recorded: catch it in the loop's body, or use :func:`guard_record`. Use
        :func:`guard_record` also for records that are handled concurrently, in tasks or in a pool.

        Outside a guarded invocation this is plain iteration and nothing is traced.

        Args:
            name: of the spans.
            capture_input: whether the record is logged, redacted and cut like the input of the invocation, or a
                function that gets it and returns what is logged; by default as the invocation's guard is configured.
            metadata: logged on each span.
        """
        chosen = name or self._name
        options = RecordOptions.checked(name, capture_input, None, metadata)

        def begin() -> RecordLoop | None:
            invocation = live_invocation()
            if invocation is None:
                return None
            return RecordLoop(
                invocation.record_loops, lambda record: self._opened(invocation, chosen, options, lambda: record)
            )

        if isinstance(records, AsyncIterable) and not isinstance(records, Iterable):
            return AsyncRecords(records, begin)
        return Records(records, begin)

    def _opened(
        self, invocation: Invocation | None, name: str, options: RecordOptions, record: Callable[[], Any]
    ) -> RecordSpan | None:
        """The span of a record; None outside an invocation."""
        if invocation is None or not invocation.is_live:
            return None
        value = record()
        return RecordSpan(invocation, name, options, lambda: self._describe(value))


def _record_in(handler: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """A function that finds the record among the arguments: the parameter ``record``, which Powertools' batch
    processors pass, else the first parameter other than ``self`` or ``cls``."""
    names = list(inspect.signature(handler).parameters)
    own = len(names) > 1 and names[0] in ("self", "cls")
    index = names.index("record") if "record" in names else int(own)
    name = names[index] if index < len(names) else "record"

    def find(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return keywords[name] if name in keywords else args[index] if index < len(args) else _first(args, keywords)

    return find


def _first(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return next(iter((*args, *keywords.values())), None)
