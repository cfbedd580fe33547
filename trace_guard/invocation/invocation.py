"""One guarded unit of work: its root span is opened before user code runs and closed however that ends."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from ..contain import contain
from ..deadline import Deadline
from ..outcome import Delivery, Outcome
from ..runtime.state import PROCESS
from .closing import Ending, aside, corrected
from .forced_close import EARLY
from .opening import NOTHING, Beginning
from .record_loop import RecordLoops
from .root_metadata import Notes

if TYPE_CHECKING:
    from ..guard import Guard
    from ..journal.open_spans import InvocationRecord
    from ..rows import Row
    from .execution import Execution

__all__ = ["NOTHING", "AfterResponse", "Invocation", "current_invocation", "live_invocation"]

AfterResponse = Callable[[Callable[[Deadline, str], object]], "str | None"]
"""Takes a delivery, to be called with its deadline and the way that it goes once the response is on its way, and
says what way that will be; None if there is none."""

_current: contextvars.ContextVar[Invocation | None] = contextvars.ContextVar("trace_guard_invocation", default=None)
_live: set[Invocation] = set()


def current_invocation() -> Invocation | None:
    """The invocation that this code runs in, or None outside of any."""
    found = _current.get()
    return found if found is not None and found.is_live else None


def live_invocation() -> Invocation | None:
    """:func:`current_invocation`, else the only one that is live: threads of a pool have a context of their own."""
    found = current_invocation()
    if found is None:
        live = [one for one in tuple(_live) if one.is_live]
        return live[0] if len(live) == 1 else None
    return found


PROCESS.in_invocation = lambda: current_invocation() is not None


class Invocation:
    """Made by :meth:`trace_guard.Guard.invocation`; use it with ``with`` or ``async with``.

    None of its methods raises for a fault of ours.

    Attributes:
        span: the Braintrust span of the root, which is current inside the block. A no-op span if tracing is
            off, or could not be begun.
        outcome: how it ended; None until then.
        delivery: what came of its rows; None until it has ended.
        judge: called with the result that user code returned, before the root is closed, to note what it means.
        guard: whose settings it has.
        after_response: set by an adapter whose platform lets delivery wait until the response is on its way.
        patience: most seconds that its end waits for delivery; by default ``flush_timeout``.
        execution: set by an adapter if several invocations do one work; its root span is then below that of the
            execution.
        record_loops: the loops over records that run in it.
    """

    _beginning: Beginning

    def __init__(
        self,
        guard: Guard,
        name: str,
        *,
        deadline: Deadline | None = None,
        parent: str | Mapping[str, str] | None = None,
        input: Any = NOTHING,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        platform: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.execution: Execution | None = None
        self.deadline = deadline or Deadline.never()
        self.span: Any = None
        self.outcome: Outcome | None = None
        self.delivery: Delivery | None = None
        self.judge: Callable[[Invocation, Any], object] | None = None
        self.after_response: AfterResponse | None = None
        self.record_loops = RecordLoops()
        self.guard = guard
        self.patience = guard.settings.flush_timeout
        self._notes = Notes()
        self._parent = parent
        self._input = input
        self._metadata = metadata
        self._tags = tags
        self._platform = dict(platform or {})
        self._output: Any = NOTHING
        self._record: InvocationRecord | None = None
        self._outer: Invocation | None = None
        self._alarm: int | None = None
        self._reserve = 0.0
        self._pid = os.getpid()
        self._began = time.monotonic()
        self._ended = 0.0
        self._lock = threading.Lock()
        self._closed = False
        self._opened = False
        self._has_left = False
        self._said: str | None = None
        self._last_words: list[Row] = []
        self._context: contextvars.Context | None = None

    @property
    def is_live(self) -> bool:
        """True between its opening and its end, in the process that opened it."""
        return self._record is not None and not self._closed and self._pid == os.getpid()

    @property
    def time_left(self) -> float:
        """Seconds until the deadline, infinity without one."""
        return self.deadline.remaining

    def set_output(self, value: Any) -> None:
        """What is to stand as the output on the root span, if outputs are captured."""
        self._output = value

    def note(self, metadata: Mapping[str, Any]) -> None:
        """Metadata for the root span, merged deeply with what was noted before; logged when it ends."""
        with contain("take a note"):
            self._notes.add(metadata)

    def count(self, group: str, key: str, by: int = 1) -> None:
        """Add to a counter, which stands in the root's metadata as ``metadata[group][key]`` when it ends."""
        with contain("count"):
            self._notes.count(group, key, by)

    def fail(self, error: str) -> None:
        """End as an error of these words, although nothing was raised. The first of several counts, and an
        exception counts before all."""
        with contain("take note of an error"):
            self._notes.fail(error)

    # Opening

    def __enter__(self) -> Invocation:
        return self.open()

    async def __aenter__(self) -> Invocation:
        return self.open()

    def open(self) -> Invocation:
        """Open the root span. For code that can't use ``with``; :meth:`close` is then its duty. Only the first
        call does anything."""
        if self.span is not None:
            return self
        try:
            with contain("open the root span"):
                from ..sdk.sdk import Sdk

                self.span = Sdk.no_span
                if not self.guard.settings.disabled:
                    self._open()
        except BaseException as error:
            self.close(error)  # a signal's handler has raised: nobody else would close it
            raise
        return self

    def _open(self) -> None:
        runtime = self.guard.runtime  # before the gateway is in place, which answers the SDK from it
        PROCESS.sdk.install()
        runtime.announce()
        self._beginning = Beginning(self)
        self._beginning.open(current_invocation(), self._become_current)

    def _become_current(self) -> None:
        _current.set(self)
        _live.add(self)

    # Closing

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(error)

    def close(self, error: BaseException | None = None, *, output: Any = NOTHING) -> Delivery | None:
        """Close what is open, the root last, and deliver. Only the first call does anything.

        Args:
            error: what user code raised; it is tagged, and raising it further is the caller's part.
            output: what user code returned.
        """
        try:
            with contain("close an invocation"):
                if self._claim():
                    try:
                        self.record_loops.settle(error)
                        self.leave()
                    finally:
                        self._finish(error, output)
        finally:
            _live.discard(self)  # whatever failed: threads of later invocations must not take it for theirs
        return self.delivery

    async def aclose(self, error: BaseException | None = None, *, output: Any = NOTHING) -> Delivery | None:
        """:meth:`close` without holding up the event loop: closing and delivering is done in a thread, and
        goes on there if the task that waits for it is cancelled."""
        try:
            with contain("close an invocation"):
                if self._claim():
                    try:
                        self.record_loops.settle(error)
                        self.leave()
                    except BaseException:
                        self._finish(error, output)  # a signal's handler has raised: nobody else would
                        raise
                    done = aside(lambda: self._finish(error, output))
                    if done is None:
                        self._finish(error, output)
                    else:
                        await asyncio.shield(done)
        finally:
            _live.discard(self)
        return self.delivery

    def _claim(self) -> bool:
        """True for the one call that is to close it; False if it is not ours to close."""
        if self._pid != os.getpid():
            return False
        with self._lock:
            if self._closed or not self._opened:
                return False
            self._closed = True
        return True

    def leave(self) -> None:
        """Give the context back, in the context that opened it; :meth:`close` does so, unless that was done before."""
        if not self._has_left:
            self._has_left = True
            self._leave()

    def _leave(self) -> None:
        with contain("leave the root span"):
            if _current.get() is self:
                _current.set(self._outer)
            self.span.unset_current()

    def _finish(self, error: BaseException | None, output: Any) -> None:
        self._ended = time.time()
        output = self._output if output is NOTHING else output
        if error is None and output is not NOTHING and self.judge is not None:
            with contain("judge the result"):
                self.judge(self, output)
        ending = Ending(self, error, self._notes.error)
        self.outcome = ending.outcome
        try:
            with contain("close the root span"):
                self._log_end(error, output)
                ending.close()
        finally:
            # A step of ours was at fault, or a signal's handler has raised in the middle of it.
            with contain("close the root span after all"):
                if self.guard.runtime.spans.is_open(self.span.id):
                    ending.close_spans()

    def _error_text(self, error: BaseException | None) -> str | None:
        """What its error field is to say, masked; None if it ended without one."""
        if self._said is None:
            if error is not None:
                self._said = PROCESS.sdk.error_text(error)
            elif self._notes.error is not None:
                self._said = PROCESS.sdk.masked(self._notes.error)
        return self._said

    def _log_end(self, error: BaseException | None, output: Any) -> None:
        with contain("log how it ended"):
            event: dict[str, Any] = {}
            text = self._error_text(error)
            if text is not None and self.outcome not in EARLY:  # else the error says why it was ended before
                event["error"] = text
            if error is None and output is not NOTHING and self.guard.settings.capture_output:
                event["output"] = self.guard.payload.copy(output)
            if metadata := self._notes.take():
                event["metadata"] = metadata
            if not event:
                return
            row = PROCESS.sdk.plain_row(self._beginning.identity, event)
            if row is None:
                self.span.log(**event)
            else:
                self._last_words = [row]

    def correct(self, error: str) -> Callable[[Deadline], object] | None:
        """Turn an end that was no error into one, after it: the platform could not take the result.

        Returns:
            What delivers that, within a deadline; None if it ended otherwise, or not here.
        """
        with contain("correct the root span"):
            with self._lock:
                if self.outcome is not Outcome.OK or not self._closed or self._record is None:
                    return None
                self.outcome = Outcome.ERROR
            return corrected(self, error)
        return None
