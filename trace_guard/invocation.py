"""One guarded unit of work: its root span is opened before user code runs and closed however that ends."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any

from .contain import contain
from .deadline import Deadline
from .open_spans import InvocationRecord
from .outcome import ClosedBy, Delivery, FlushPolicy, Outcome, Verdict
from .process import PROCESS
from .rows import closing_row

if TYPE_CHECKING:
    from .guard import Guard
    from .journal.format import Position
    from .journal.journal import Journal
    from .rows import Row

__all__ = ["NOTHING", "Invocation", "current_invocation"]

NOTHING: Any = ...
"""Stands for "no such value", where None is one."""

_current: contextvars.ContextVar[Invocation | None] = contextvars.ContextVar("trace_guard_invocation", default=None)

# Moving the SDK's queue to the journal takes a fraction of a millisecond; longer only if something hangs in it.
_DRAIN_SECONDS = 1.0
# When the watchdog has fired there is a reserve of a few tenths of a second for all that is left to do.
_LAST_DRAIN_SECONDS = 0.05
_LAST_MARGIN_SECONDS = 0.02


def current_invocation() -> Invocation | None:
    """The invocation that this code runs in, or None outside of any."""
    found = _current.get()
    return found if found is not None and found.is_live else None


PROCESS.in_invocation = lambda: current_invocation() is not None


class Invocation:
    """Made by :meth:`trace_guard.Guard.invocation`; use it with ``with`` or ``async with``.

    None of its methods raises for a fault of ours.

    Attributes:
        span: the Braintrust span of the root, which is current inside the block. A no-op span if tracing is
            off, or could not be begun.
        outcome: how it ended; None until then.
        delivery: what came of its rows; None until it has ended.
    """

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
        self.deadline = deadline or Deadline.never()
        self.span: Any = None
        self.outcome: Outcome | None = None
        self.delivery: Delivery | None = None
        self._guard = guard
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
        self._lock = threading.Lock()
        self._closed = False
        self._opened = False
        self._start: Row = {}
        self._begun = False
        self._recorded = False

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
                from .sdk import Sdk

                self.span = Sdk.no_span
                if not self._guard.settings.disabled:
                    self._open()
        except BaseException as error:
            self.close(error)  # a signal's handler has raised: nobody else would close it
            raise
        return self

    def _open(self) -> None:
        sdk, runtime, settings = PROCESS.sdk, self._guard.runtime, self._guard.settings
        sdk.install()
        runtime.announce()
        outer = current_invocation()
        started = time.time()
        parent, foreign = sdk.adoptable(self._parent)
        self.span = sdk.start_root(
            self.name, project=settings.project, project_id=settings.project_id,
            parent=None if outer else parent, started=started,
        )
        row = self._start = sdk.start_row(self.span, self.name, started, {**self._platform, **foreign})
        self._outer = outer
        if outer is None:
            remaining = self.deadline.remaining
            self._reserve = settings.reserve_of(remaining)
            self._record = InvocationRecord(
                root=row["id"], span_id=row["span_id"], root_span_id=row["root_span_id"], started=started,
                deadline=self.deadline.epoch, reserve=self._reserve,
            )
            self._opened = True
            runtime.begin(self._record, row)
            self._begun = True
            self._recorded = runtime.spans.is_open(row["id"])
            self._alarm = runtime.watchdog.arm(self.deadline.minus(self._reserve), self._time_out)
        else:
            # Within another invocation it is a span like any other, and delivered with that.
            self._opened = True
            runtime.append([row])
            self._begun = True
        self.span.set_current()
        if outer is None:
            _current.set(self)
        self._log_input()

    def _log_input(self) -> None:
        """Through the SDK, so that its masking function sees it."""
        with contain("log the input"):
            event: dict[str, Any] = {}
            if self._input is not NOTHING and self._guard.settings.capture_input:
                event["input"] = self._guard.payload.copy(self._input)
            if self._metadata:
                event["metadata"] = dict(self._metadata)
            if self._tags and not self.span.span_parents:
                event["tags"] = list(self._tags)  # the API takes tags on root spans only
            if event:
                self.span.log(**event)
        self._input = NOTHING

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
        with contain("close an invocation"):
            if self._claim():
                try:
                    self._leave()
                finally:
                    self._finish(error, output)
        return self.delivery

    async def aclose(self, error: BaseException | None = None, *, output: Any = NOTHING) -> Delivery | None:
        """:meth:`close` without holding up the event loop: closing and delivering is done in a thread, and
        goes on there if the task that waits for it is cancelled."""
        with contain("close an invocation"):
            if self._claim():
                try:
                    self._leave()
                except BaseException:
                    self._finish(error, output)  # a signal's handler has raised: nobody else would
                    raise
                done = self._finish_aside(error, output)
                if done is None:
                    self._finish(error, output)
                else:
                    await asyncio.shield(done)
        return self.delivery

    def _finish_aside(self, error: BaseException | None, output: Any) -> asyncio.Future[None] | None:
        """:meth:`_finish` in a thread, which is its own: those of the loop's executor may all be busy with what
        user code has given them. None if there is no loop of asyncio, or no thread can be had."""
        try:
            loop = asyncio.get_running_loop()
            done = loop.create_future()

            def settle() -> None:
                if not done.done():
                    done.set_result(None)

            def run() -> None:
                try:
                    self._finish(error, output)
                finally:
                    with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                        loop.call_soon_threadsafe(settle)

            threading.Thread(target=run, name="trace-guard-close").start()
        except RuntimeError:
            return None
        return done

    def _claim(self) -> bool:
        """True for the one call that is to close it; False if it is not ours to close."""
        if self._pid != os.getpid():
            return False
        with self._lock:
            if self._closed or not self._opened:
                return False
            self._closed = True
        return True

    def _leave(self) -> None:
        """Give the context back, in the context that opened it."""
        with contain("leave the root span"):
            if _current.get() is self:
                _current.set(self._outer)
            self.span.unset_current()

    def _finish(self, error: BaseException | None, output: Any) -> None:
        end = time.time()
        if self.outcome is None:
            self.outcome = Outcome.OK if error is None else Outcome.ERROR
        try:
            with contain("close the root span"):
                self._close(error, self._output if output is NOTHING else output, end)
        finally:
            # A step of ours was at fault, or a signal's handler has raised in the middle of it.
            with contain("close the root span after all"):
                if self._guard.runtime.spans.is_open(self.span.id):
                    self._close_spans(error, end)

    def _close(self, error: BaseException | None, output: Any, end: float) -> None:
        if self._alarm is not None:
            self._guard.runtime.watchdog.disarm(self._alarm)
        # One bound for all of it, so that what the SDK takes is not added to what the delivery may.
        bound = self._latest.capped(self._guard.settings.flush_timeout)
        self._log_end(error, output)
        with contain("empty the SDK's queue"):
            PROCESS.sdk.drain(max(bound.capped(_DRAIN_SECONDS), Deadline.after(_LAST_DRAIN_SECONDS)))
        journal, position, rows = self._close_spans(error, end)
        if self._record is not None:
            self._deliver(self._record, journal, position, rows, bound)

    @property
    def _latest(self) -> Deadline:
        """The point up to which closing may take its time."""
        outermost = self._outer or self
        return outermost.deadline.minus(outermost._reserve)

    def _close_spans(self, error: BaseException | None, end: float) -> tuple[Journal, Position, int]:
        """Write the ends of what is open; the journal, the position behind them, and the rows of all."""
        runtime, record, outcome = self._guard.runtime, self._record, self.outcome
        assert outcome is not None
        # The text of an error goes through the SDK, for its masking; its type alone tells no secret.
        told = error is None or runtime.spans.has_error(self.span.id)
        root = closing_row(
            PROCESS.sdk.identity_of(self.span), end=end, outcome=outcome,
            error=None if told else type(error).__name__,
        )
        if not self._begun:
            # A fault of ours, or a signal, came before its start was written: an end alone has no name and no start.
            runtime.append([self._start])
            self._begun, self._recorded = True, runtime.spans.is_open(self._start["id"])
        if record is None:
            return (*runtime.append([root]), 1)
        rows = runtime.spans.rows_of(record.root)
        # From here on a start row that still arrives is late, and is closed as it arrives.
        runtime.spans.finish(record.root)
        left = [span for span in runtime.spans.open_of(record.root) if span.row_id != record.root]
        closing = runtime.close_spans(left, outcome, ClosedBy.GUARD, "left_open", end)
        # The watchdog has closed it already, if it came that far.
        if outcome is not Outcome.TIMED_OUT or runtime.spans.is_open(record.root):
            closing.append(root)
        return (*runtime.append(closing), rows + len(closing))

    def _log_end(self, error: BaseException | None, output: Any) -> None:
        with contain("log how it ended"):
            event: dict[str, Any] = {}
            if error is not None:
                event["error"] = PROCESS.sdk.error_text(error)
            elif output is not NOTHING and self._guard.settings.capture_output:
                event["output"] = self._guard.payload.copy(output)
            if event:
                self.span.log(**event)

    def _deliver(
        self, record: InvocationRecord, journal: Journal, position: Position, rows: int, bound: Deadline
    ) -> None:
        runtime = self._guard.runtime
        if not self._recorded:
            # Its start did not fit under the journal's cap, and so nothing of it was kept.
            self.delivery = Delivery(Verdict.LOST, error="the journal is full: this trace was not recorded")
            return
        if self._guard.flush_policy is FlushPolicy.AFTER_RESPONSE:
            runtime.courier.send_soon()
            self.delivery = Delivery(Verdict.DEFERRED, rows)
            return
        delivery = runtime.courier.deliver(journal, position, bound, roots=[record.root_span_id])
        self.delivery = replace(delivery, rows=rows)

    # The watchdog

    def _time_out(self) -> None:
        """Called on a thread of its own at deadline minus reserve, while user code still runs."""
        with contain("close what timed out"):
            with self._lock:
                if self._closed or self.outcome is not None:
                    return
                self.outcome = Outcome.TIMED_OUT
            self._close_timed_out()

    def _close_timed_out(self) -> None:
        runtime, record = self._guard.runtime, self._record
        assert record is not None
        with contain("empty the SDK's queue"):
            PROCESS.sdk.drain(Deadline.after(_LAST_DRAIN_SECONDS))
        end = time.time()
        left = runtime.spans.open_of(record.root)
        running = next((span.name for span in left if span.row_id != record.root), None)
        children = [span for span in left if span.row_id != record.root]
        closing = runtime.close_spans(children, Outcome.TIMED_OUT, ClosedBy.WATCHDOG, "deadline", end)
        lasted = time.monotonic() - self._began
        error = f"TimedOut: still running {lasted:.2f} s after it began, {self._reserve:.2f} s before its deadline"
        if running is not None:
            error += f"; in the span {running!r}"
        closing.append(closing_row(
            PROCESS.sdk.identity_of(self.span), end=end, outcome=Outcome.TIMED_OUT, closed_by=ClosedBy.WATCHDOG,
            reason="deadline", error=error, notes={"running": running} if running else None,
        ))
        journal, position = runtime.append(closing)
        left_for_delivery = self.deadline.minus(_LAST_MARGIN_SECONDS)
        runtime.courier.deliver(journal, position, left_for_delivery, roots=[record.root_span_id])
