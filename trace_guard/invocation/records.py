"""Child spans for the records of a batch, of whatever platform it is."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from ..contain import contain, contained
from ..runtime.state import PROCESS
from .invocation import NOTHING, Invocation, live_invocation

__all__ = ["Record", "RecordOptions", "RecordSpan", "guarded_record"]

F = TypeVar("F", bound=Callable[..., Any])


class Record(NamedTuple):
    """What is said of a record.

    Attributes:
        facts: the metadata of its span, never its content.
        input: what is to stand as the input.
    """

    facts: Mapping[str, Any]
    input: Any


class RecordOptions(NamedTuple):
    """How records are traced.

    Attributes:
        name: of the spans; by default the record handler's own name.
        capture_input, capture_output: whether record and result are logged, redacted and cut like those of the
            invocation; by default as its guard has it.
        metadata: logged on each span.
    """

    name: str | None = None
    capture_input: bool | None = None
    capture_output: bool | None = None
    metadata: Mapping[str, Any] | None = None


class RecordSpan:
    """The span of one record, current from its making until it is closed in the same context.

    Args:
        describe: says what the record is.
    """

    def __init__(
        self, invocation: Invocation, name: str, options: RecordOptions, describe: Callable[[], Record]
    ) -> None:
        import braintrust  # an invocation is live, so that it has been imported

        self._invocation = invocation
        self._guard = invocation.guard
        settings = self._guard.settings
        self._capture_output = settings.capture_output if options.capture_output is None else options.capture_output
        record = contained("describe a record", describe, Record({}, NOTHING))
        event: dict[str, Any] = {"metadata": {**record.facts, **(options.metadata or {})}}
        captures = settings.capture_input if options.capture_input is None else options.capture_input
        if captures and record.input is not NOTHING:
            event["input"] = self._guard.payload.copy(record.input)
        current: Any = braintrust.current_span()
        parent = invocation.span if current is PROCESS.sdk.no_span else current
        self._span = parent.start_span(name=name, type="task", **event)
        self._span.set_current()

    def done(self, result: Any = NOTHING) -> None:
        """It was done with, and came to this result."""
        if self._capture_output and result is not NOTHING:
            with contain("log a record's result"):
                self._span.log(output=self._guard.payload.copy(result))
        self.end()
        self.count("done")

    def failed(self, error: BaseException) -> None:
        """It could not be done."""
        self.log_error(error)
        self.end()
        self.count("failed")

    def log_error(self, error: BaseException) -> None:
        with contain("log a record's error"):
            self._span.log(error=PROCESS.sdk.error_text(error))

    def end(self) -> None:
        """Close it, without saying what came of the record."""
        with contain("leave a record's span"):
            self._span.unset_current()
        with contain("close a record's span"):
            self._span.end()

    def count(self, outcome: str) -> None:
        """Count the record on the root, as ``done`` or ``failed``."""
        self._invocation.count("records", outcome)


Opened = Callable[[tuple[Any, ...], dict[str, Any]], "RecordSpan | None"]


def guarded_record(handler: F, options: RecordOptions, describe: Callable[[Any], Record]) -> F:
    """A function like ``handler``, plain or async, each of whose calls is a span of the live invocation."""
    chosen = options.name or getattr(handler, "__name__", None) or "record"
    record_in = contained("read the signature of a record handler", lambda: _record_in(handler), _first)

    def opened(args: tuple[Any, ...], keywords: dict[str, Any]) -> RecordSpan | None:
        with contain("begin a record's span"):
            invocation = live_invocation()
            if invocation is not None:
                record = record_in(args, keywords)
                return RecordSpan(invocation, chosen, options, lambda: describe(record))
        return None

    wrap = _coroutine if inspect.iscoroutinefunction(handler) else _plain
    return wrap(handler, opened)  # type: ignore[return-value]


def _plain(handler: Callable[..., Any], opened: Opened) -> Callable[..., Any]:
    @functools.wraps(handler)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        span = opened(args, keywords)
        if span is None:
            return handler(*args, **keywords)
        try:
            result = handler(*args, **keywords)
        except BaseException as error:
            span.failed(error)
            raise
        span.done(result)
        return result

    return wrapper


def _coroutine(handler: Callable[..., Awaitable[Any]], opened: Opened) -> Callable[..., Any]:
    @functools.wraps(handler)
    async def wrapper(*args: Any, **keywords: Any) -> Any:
        span = opened(args, keywords)
        if span is None:
            return await handler(*args, **keywords)
        try:
            result = await handler(*args, **keywords)
        except BaseException as error:
            span.failed(error)
            raise
        span.done(result)
        return result

    return wrapper


def _record_in(handler: Callable[..., Any]) -> Callable[[tuple[Any, ...], dict[str, Any]], Any]:
    """Finds the record among the arguments: ``record``, as the batch processors of Powertools pass it, else the
    first parameter that is not a method's own."""
    names = list(inspect.signature(handler).parameters)
    own = len(names) > 1 and names[0] in ("self", "cls")
    index = names.index("record") if "record" in names else int(own)
    name = names[index] if index < len(names) else "record"

    def find(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return keywords[name] if name in keywords else args[index] if index < len(args) else _first(args, keywords)

    return find


def _first(args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    return next(iter((*args, *keywords.values())), None)
