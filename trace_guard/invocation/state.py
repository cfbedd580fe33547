"""The state that opening, closing and forced closing of an invocation share."""

from __future__ import annotations

import contextvars
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ..contain import contained
from ..deadline import Deadline
from ..outcome import Delivery, FlushPolicy, Outcome, Way
from ..payload import Payload
from ..rows import Row
from ..runtime.pipeline import Pipeline
from ..runtime.state import PROCESS
from ..settings import Settings
from ..system.clock import monotonic
from .flush_hooks import FlushHooks
from .root_metadata import RootMetadata

if TYPE_CHECKING:
    from ..journal.base import Journal
    from ..journal.invocation_record import InvocationRecord

__all__ = [
    "FORCED", "NOTHING", "AfterResponse", "Deliver", "ExecutionRoot", "GuardLike", "InvocationState", "disabled_guard",
]

NOTHING: Any = ...
"""Marks an absent value where None is a value."""

FORCED = (Outcome.TIMED_OUT, Outcome.TERMINATED)
"""Outcomes of an invocation that the watchdog or a signal closed while its code was running."""

Deliver: TypeAlias = Callable[[Deadline, Way], object]

AfterResponse: TypeAlias = Callable[[Deliver], "Way | None"]
"""Schedules ``deliver(deadline, way)`` after the response. Returns how it will be delivered, or None."""


class HandsOver(Protocol):
    """Delivers while the caller of async code goes on."""

    def __call__(self, deliver: Deliver, /) -> Way | None: ...

    def written(self) -> None:
        """The rows are in the journal, or that takes long. The caller waits until then."""


class GuardLike(Protocol):
    """The part of :class:`~trace_guard.Guard` that an invocation uses."""

    @property
    def settings(self) -> Settings: ...

    @property
    def payload(self) -> Payload: ...

    @property
    def flush_policy(self) -> FlushPolicy: ...

    @property
    def flush_hooks(self) -> FlushHooks: ...

    @property
    def pipeline(self) -> Pipeline: ...


class ExecutionRoot(Protocol):
    """The root that several invocations share. See :class:`~trace_guard.invocation.execution.Execution`."""

    def open(
        self, guard: GuardLike, pipeline: Pipeline, parent: str | Mapping[str, str] | None = None
    ) -> str: ...

    def finish(self, outcome: Outcome, *, output: Any = NOTHING, error: str | None = None) -> None: ...


class _DisabledGuard:
    settings = Settings(disabled=True)
    payload = Payload()
    flush_policy = FlushPolicy.BEFORE_RESPONSE
    flush_hooks = FlushHooks()

    @property
    def pipeline(self) -> Pipeline:
        raise RuntimeError("trace-guard is disabled")


def disabled_guard() -> GuardLike:
    """A guard whose invocations have no effect."""
    return _DisabledGuard()


@dataclass(eq=False)
class InvocationState:
    """The state of one invocation. Times are in seconds.

    Attributes:
        patience: how long closing waits for delivery at most; ``flush_timeout`` by default.
        announces_waits: print what closing waits for if it takes long, because nobody knows that a delivery goes on.
        execution: set by an adapter if the invocation is part of a workflow, whose root is then its parent.
        after_response: set by an adapter whose platform allows delivery after the response.
        span: the root's Braintrust span; None until it opens.
        root: the root's start row, which holds its ids.
        outer: the invocation that encloses this one. The root is then a plain span of it.
        starter: the invocation in whose code this one began, in a task of its own. It does not own this one.
        task: the task that it began in.
        is_request: the deadline is that of a response, which tasks begun meanwhile may outlive.
        record: the journal's entry for the invocation; None within an outer invocation.
        reserve: how long before the deadline the watchdog closes the spans.
        journal: the journal that holds the root's start row.
        is_recorded: False if the start row exceeded the journal's size cap. Then no row of the trace is kept.
        context: a copy of the context in which the root is current.
        began: on the monotonic clock.
        started: the same point in time, in seconds since the epoch.
        ended: in seconds since the epoch.
        lock: held while the outcome, ``is_closed`` or the delivery changes.
        elsewhere: spans of its code whose rows go to other destinations.
        lost_before: how many rows of no known invocation the SDK had lost when it began.
        pipeline: where its rows go. It is set when the invocation opens, so that a login in its code can't split its
            trace.
        hands_over: takes the place of ``after_response`` in async code whose process goes on. It holds for exceptions
            that end the process too, whose exit then delivers.
        unwritten: rows that the end has logged but not yet appended to the journal.
    """

    guard: GuardLike
    name: str
    deadline: Deadline
    patience: float
    parent: str | Mapping[str, str] | None = None
    input: Any = NOTHING
    output: Any = NOTHING
    metadata: Mapping[str, Any] | None = None
    tags: Sequence[str] | None = None
    platform: dict[str, Any] = field(default_factory=dict)
    announces_waits: bool = False
    execution: ExecutionRoot | None = None
    after_response: AfterResponse | None = None
    root_metadata: RootMetadata = field(default_factory=RootMetadata)
    outer: InvocationState | None = None
    starter: InvocationState | None = None
    task: weakref.ref[Any] | None = None
    is_request: bool = False
    span: Any = None
    root: Row = field(default_factory=dict)
    record: InvocationRecord | None = None
    journal: Journal | None = None
    is_written: bool = False
    is_recorded: bool = False
    reserve: float = 0.0
    alarm: int | None = None
    context: contextvars.Context | None = None
    outcome: Outcome | None = None
    delivery: Delivery | None = None
    is_opened: bool = False
    is_closed: bool = False
    pid: int = field(default_factory=os.getpid)
    began: float = field(default_factory=monotonic)
    started: float = field(default_factory=time.time)
    ended: float = 0.0
    hands_over: HandsOver | None = None
    unwritten: list[Row] = field(default_factory=list)
    elsewhere: list[Any] = field(default_factory=list)
    lost_before: int = 0
    pipeline: Pipeline = field(init=False)
    lock: threading.Lock = field(default_factory=threading.Lock)
    _error_text: str | None = None

    @property
    def is_ours(self) -> bool:
        """False in a forked child: the invocation belongs to the parent process."""
        return self.pid == os.getpid()

    @property
    def is_live(self) -> bool:
        """True between its opening and its end, in the process that opened it."""
        return self.record is not None and not self.is_closed and self.is_ours

    @property
    def now(self) -> float:
        """The time, in seconds since the epoch, by a clock that began with the invocation and is never set."""
        return self.started + monotonic() - self.began

    @property
    def latest(self) -> Deadline:
        """Deadline minus reserve: closing must end before it."""
        outermost = self.outer or self
        return outermost.deadline.minus(outermost.reserve)

    def error_text(self, error: BaseException | None) -> str | None:
        """The masked text of the root's ``error``; None if the code ended without an error.

        It is computed once, so the row that goes through the SDK and the closing row agree.
        """
        if self._error_text is None:
            if error is not None:
                self._error_text = PROCESS.sdk.error_text(error)
            elif self.root_metadata.error is not None:
                self._error_text = PROCESS.sdk.masked(self.root_metadata.error)
        return self._error_text

    def known_error_text(self, error: BaseException | None) -> str | None:
        """:meth:`error_text`, or the exception's type if the text can't be made."""
        return contained(
            "describe the error", lambda: self.error_text(error), None if error is None else type(error).__name__
        )
