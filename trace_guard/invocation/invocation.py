"""One guarded unit of work. Its root span opens before user code runs and closes however the code ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any

from ..contain import contain, contained, warn_once
from ..deadline import Deadline, Seconds
from ..outcome import Delivery, Outcome
from ..rows import identity
from ..runtime import current
from ..runtime.forks import begin_anew_if_forked
from ..runtime.state import PROCESS
from .captured import captured_input, captured_output
from .closing import Closing, corrected, is_fatal
from .handing_over import HandingOver, goes_on, run_in_thread, wait_at_end_of_loop
from .opening import log_on_root, open_root
from .record_loop import RecordLoops
from .state import FORCED, NOTHING, AfterResponse, GuardLike, InvocationState
from .tasks import current_task

__all__ = ["NOTHING", "AfterResponse", "Invocation", "current_invocation", "live_invocation"]

# With more spans of other states, ended ones are forgotten.
_MOST_ELSEWHERE = 256


def current_invocation() -> Invocation | None:
    """The invocation that this code runs in, or None outside any invocation."""
    invocation: Invocation | None = current.current()
    return invocation


def live_invocation() -> Invocation | None:
    """The current invocation, else the only live one, because pool threads have a context of their own."""
    invocation: Invocation | None = current.only_live()
    return invocation


class Invocation:
    """One guarded unit of work, made by :meth:`trace_guard.Guard.invocation`. Use it with ``with`` or ``async with``.

    Internal faults are logged. No method raises because of one.

    Attributes:
        judge: called with the invocation and the result of user code before the root closes. It records what the
            result means, such as an HTTP status.
        read_result: called with the invocation and the result of user code after ``judge``. Returns what is logged as
            the output, NOTHING for nothing. It may make the invocation fail.
        record_loops: the loops over records that run in the invocation.
        state: shared by opening and closing. An adapter may change it until the invocation opens.
    """

    def __init__(
        self,
        guard: GuardLike,
        name: str,
        *,
        deadline: Deadline | Seconds | None = None,
        parent: str | Mapping[str, str] | None = None,
        input: Any = NOTHING,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | str | None = None,
        platform: Mapping[str, Any] | None = None,
    ) -> None:
        self.judge: Callable[[Invocation, Any], object] | None = None
        self.read_result: Callable[[Invocation, Any], Any] | None = None
        self.state = InvocationState(
            guard, name, contained("read the deadline", lambda: _deadline(deadline), Deadline.never()),
            guard.settings.flush_timeout, parent=parent, input=input, metadata=metadata,
            tags=[tags] if isinstance(tags, str) else tags, platform=dict(platform or {}),
        )
        self.record_loops = RecordLoops()
        self._outer: Invocation | None = None
        self._has_left = False

    @property
    def name(self) -> str:
        """The name of the root span."""
        return self.state.name

    @property
    def guard(self) -> GuardLike:
        """The guard that made the invocation."""
        return self.state.guard

    @property
    def span(self) -> Any:
        """The root's Braintrust span, which is current inside the block. A no-op span if tracing is disabled or could
        not start; None before the invocation opens."""
        return self.state.span

    @property
    def deadline(self) -> Deadline:
        """When the platform ends the invocation. The watchdog closes all spans shortly before."""
        return self.state.deadline

    @deadline.setter
    def deadline(self, deadline: Deadline | Seconds | None) -> None:
        self.state.deadline = contained("read the deadline", lambda: _deadline(deadline), Deadline.never())

    @property
    def outcome(self) -> Outcome | None:
        """How the invocation ended; None while it runs."""
        return self.state.outcome

    @property
    def delivery(self) -> Delivery | None:
        """Where the invocation's rows are; None while it runs."""
        return self.state.delivery

    @property
    def is_live(self) -> bool:
        """True between its opening and its end, in the process that opened it."""
        return self.state.is_live

    @property
    def time_left(self) -> float:
        """Seconds until the deadline, infinity without one."""
        return self.deadline.remaining

    def set_output(self, value: Any) -> None:
        """Set the output of the root span. It is logged if outputs are captured."""
        self.state.output = value

    def log_input(self, value: Any, guard: GuardLike | None = None) -> None:
        """Log the input of the root span, as far as inputs are captured. Objects are merged with what is logged
        already.

        Args:
            guard: whose settings count, by default those of the invocation's own.
        """
        with contain("log the input"):
            input = captured_input(guard or self.guard, value)
            if input is not NOTHING and self.state.is_opened and not self.state.is_closed:
                log_on_root(self.state, {"input": input})

    def note(self, metadata: Mapping[str, Any]) -> None:
        """Add metadata to the root span. It is merged deeply with earlier metadata and logged at the end."""
        with contain("add metadata to the root span"):
            self.state.root_metadata.add(metadata)

    def rename(self, name: str, metadata: Mapping[str, Any] | None = None) -> None:
        """Give the root another name, and metadata that explains it. A process that is killed before its next row keeps
        the old ones."""
        with contain("rename the root span"):
            self.state.name = name
            row = PROCESS.sdk.rename(self.span, identity(self.state.root), name, metadata)
            if row is not None:
                self.state.pipeline.defer(row)

    def count(self, group: str, key: str, by: int = 1) -> None:
        """Add to a counter. It is logged at the end as ``metadata[group][key]`` of the root span."""
        with contain("add to a counter"):
            self.state.root_metadata.count(group, key, by)

    def fail(self, error: str) -> None:
        """Make the invocation end as an error although nothing was raised. The first message counts. The text of an
        exception takes its place."""
        with contain("record an error"):
            self.state.root_metadata.fail(error)

    def adopt(self, span: Any) -> None:
        """Close this span with the invocation, in whose code it has started, wherever its trace is."""
        if self.state.record is None:
            return
        self.state.pipeline.adopt(span, self.state.record.root)
        if PROCESS.sdk.is_elsewhere(span):
            elsewhere = self.state.elsewhere
            if len(elsewhere) >= _MOST_ELSEWHERE:
                # The newest of each state stays, so that the state's rows are sent at the end.
                newest = {id(other.state): other for other in elsewhere}
                elsewhere[:] = [
                    other for other in elsewhere if PROCESS.sdk.is_open(other) or newest[id(other.state)] is other
                ]
            elsewhere.append(span)

    @property
    def latest(self) -> Deadline:
        """The point up to which what its code waits for may take its time."""
        return self.state.latest

    # Opening

    def __enter__(self) -> Invocation:
        return self.open()

    async def __aenter__(self) -> Invocation:
        return self.open()

    def open(self) -> Invocation:
        """Open the root span, in code that can't use ``with`` and so must call :meth:`close`. Only the first call has
        an effect."""
        if self.state.span is not None:
            return self
        try:
            with contain("open the root span"):
                from ..sdk.sdk import Sdk

                self.state.span = Sdk.no_span
                if not self.guard.settings.disabled:
                    self._open()
        except BaseException as error:
            self.close(error)  # a signal handler raised, and no other code would close it
            raise
        return self

    def _open(self) -> None:
        begin_anew_if_forked()
        _ = self.guard.pipeline  # first, because the installed gateway answers the SDK from it
        PROCESS.sdk.install()
        PROCESS.logins.let_go()
        self.guard.pipeline.announce()
        self._outer = current_invocation()
        self.state.task = current_task()
        if self._outer is not None:
            self._begin_within(self._outer.state)
        open_root(self.state, self._become_current)

    def _begin_within(self, outer: InvocationState) -> None:
        """Become a span of the outer invocation. In a task of its own, which may outlive it, become an invocation that
        closes and delivers by itself; the current span is the parent of its root."""
        if outer.task is None or self.state.task is None or outer.task() is self.state.task():
            self.state.outer = outer
        else:
            self.state.starter = outer
            if not outer.is_request:  # else the deadline is that of the response
                self.state.deadline = min(self.state.deadline, outer.deadline)

    def _become_current(self) -> None:
        current.CURRENT.set(self)
        current.LIVE.add(self)

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
        """Close the open spans, the root last, and deliver. Only the first call has an effect.

        Args:
            error: what user code raised. It is recorded on the root; the caller re-raises it.
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
        except (KeyboardInterrupt, SystemExit):
            # A second Ctrl-C, which came while the delivery was waited for: the exit must not wait again.
            PROCESS.has_waited(self.guard.settings.exit_timeout)
            raise
        finally:
            current.LIVE.discard(self)  # even after a fault, threads of later invocations must not use this one
        return self.state.delivery

    async def aclose(self, error: BaseException | None = None, *, output: Any = NOTHING) -> Delivery | None:
        """:meth:`close` without blocking the event loop.

        Where the process goes on after the response, nothing waits for the delivery, as the caller may have a time
        limit: a thread closes and delivers, and only the rows that it writes are waited for. On platforms that freeze
        the process then, and with ``flush="before-response"``, the delivery is waited for.
        """
        state = self.state
        handing_over = contained("see what comes after the response", self._handing_over, None)
        if handing_over is not None:
            try:
                with contain("follow the end of an event loop"):
                    await wait_at_end_of_loop()
            finally:
                state.hands_over = handing_over
                self.close(error, output=output)
            with contain("wait for the rows of an invocation"):
                await handing_over.wait()
            return state.delivery
        try:
            with contain("close an invocation"):
                if self._claim():
                    try:
                        self.record_loops.settle(error)
                        self.leave()
                    except BaseException:
                        self._finish(error, output)  # a signal handler raised
                        raise
                    done = run_in_thread(lambda: self._finish(error, output))
                    if done is None:
                        self._finish(error, output)
                    else:
                        await self._wait_for(done, error)
        finally:
            current.LIVE.discard(self)
        return self.state.delivery

    def _handing_over(self) -> HandingOver | None:
        is_due = self.state.record is not None and goes_on(self.guard.settings.flush)
        return HandingOver() if is_due else None

    async def _wait_for(self, done: asyncio.Future[None], error: BaseException | None) -> None:
        try:
            await asyncio.wait([done])
        except BaseException:  # the thread goes on
            if is_fatal(error):  # a second Ctrl-C: the exit must not wait again
                PROCESS.has_waited(self.guard.settings.exit_timeout)
            raise

    def _claim(self) -> bool:
        """True for the first close. False for later ones, before the opening, and in a forked child."""
        state = self.state
        if not state.is_ours:
            return False
        with state.lock:
            if state.is_closed or not state.is_opened:
                return False
            state.is_closed = True
        return True

    def leave(self) -> None:
        """Restore the outer context. Call it in the context that opened the invocation; :meth:`close` also calls it."""
        if not self._has_left:
            self._has_left = True
            self._leave()

    def _leave(self) -> None:
        with contain("leave the root span"):
            if current.CURRENT.get() is self:
                current.CURRENT.set(self._outer)
            self.span.unset_current()

    def _finish(self, error: BaseException | None, output: Any) -> None:
        state = self.state
        state.ended = state.now
        output = state.output if output is NOTHING else output
        if output is not NOTHING:
            output = self._read(output, error)
        closing = Closing(state, error)
        state.outcome = closing.outcome
        try:
            with contain("close the root span"):
                self._log_end(error, output)
                closing.close()
        finally:
            # An internal fault or an exception from a signal handler may have left the root open.
            with contain("close the root span after a fault"):
                if state.pipeline.spans.is_open(self.span.id):
                    closing.close_spans()

    def _read(self, result: Any, error: BaseException | None) -> Any:
        """What is logged as the output for a result, or for the part of it that was made before an error."""
        if self.judge is not None and error is None:
            with contain("judge the result"):
                self.judge(self, result)
        if self.read_result is not None:
            with contain("read the result"):
                return self.read_result(self, result)
        return result

    def _log_end(self, error: BaseException | None, output: Any) -> None:
        state = self.state
        with contain("log the end of an invocation"):
            event: dict[str, Any] = {}
            text = state.error_text(error)
            if text is not None and state.outcome not in FORCED:  # else the error gives the reason for the forced close
                event["error"] = text
            if (output := captured_output(self.guard, output)) is not NOTHING:
                event["output"] = output
            if metadata := state.root_metadata.take():
                event["metadata"] = metadata
            if not event:
                return
            row = PROCESS.sdk.plain_row(identity(state.root), event)
            if row is None:
                self.span.log(**event)
            else:
                state.unwritten = [row]

    def correct(self, error: str) -> Callable[[Deadline], object] | None:
        """Turn a successful end into an error because the platform could not accept the result.

        Returns:
            A function that delivers the correction within a deadline. None if the invocation did not end as ``OK``.
        """
        state = self.state
        with contain("correct the root span"):
            with state.lock:
                if state.outcome is not Outcome.OK or not state.is_closed or state.record is None:
                    return None
                state.outcome = Outcome.ERROR
            return corrected(state, error)
        return None


def _deadline(given: Deadline | Seconds | None) -> Deadline:
    """The deadline. A value of another kind is reported, and means no deadline: the user's code must run in any
    case."""
    if given is None:
        return Deadline.never()
    try:
        return Deadline.of(given)
    except ValueError as error:
        warn_once("deadline", "deadline= is not accepted: %s. It takes a Deadline, seconds or a timedelta; without "
                  "one, the invocation has no deadline", error)
        return Deadline.never()
