"""One run of a batch job. Its root span shows the platform, the progress and a heartbeat."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from ..contain import contain, contained, warn_once
from ..deadline import Seconds, seconds_of
from ..invocation.invocation import NOTHING, Invocation, current_invocation
from ..invocation.state import GuardLike
from ..outcome import Delivery, Outcome, Verdict
from ..runtime.state import PROCESS
from . import current
from .counters import StepCounters
from .exits import exit_code, failure, is_end_by
from .failing import FailIf, has_failed
from .heartbeat import HEARTBEAT_SECONDS, Heartbeat
from .parallel import Items, Processing
from .platform import Platform
from .platforms import detect
from .progress import Progress
from .signals import JobSignals
from .steps import Step
from .workers import Workers

__all__ = ["Job"]

T = TypeVar("T")
R = TypeVar("R")
D = TypeVar("D")


def _seconds(name: str, value: Seconds, default: D) -> float | D:
    """The seconds of a keyword. A value of another kind is reported and ignored: the job must run in any case."""
    try:
        return seconds_of(value)
    except ValueError as error:
        warn_once(name, "%s= is not accepted and ignored: %s", name, error)
        return default


class Job:
    """One run of a batch job, made by :meth:`trace_guard.Guard.job`. Use it with ``with`` or ``async with``.

    Internal faults are logged. No method raises because of one.

    A ``SystemExit`` with status 0, as from ``sys.exit()``, is a success. The outcome is ``TERMINATED`` if a signal was
    received and the job then ends with ``SystemExit``, ``KeyboardInterrupt`` or a cancellation.

    Attributes:
        invocation: the guarded unit of work of the job.
        platform: where the job runs.
    """

    def __init__(
        self,
        guard: GuardLike,
        name: str | None = None,
        *,
        fallback_name: str | None = None,
        grace: Seconds | None = None,
        parent: str | Mapping[str, str] | None = None,
        input: Any = NOTHING,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        heartbeat: Seconds = HEARTBEAT_SECONDS,
        progress: bool = True,
        fail_if: FailIf | None = None,
    ) -> None:
        self.platform: Platform = contained("find out where the job runs", detect, Platform({}))
        chosen = name or self.platform.job_name or fallback_name or current.program()
        self.invocation = Invocation(
            guard, chosen, parent=parent, input=input, metadata=metadata, tags=tags,
            platform=contained("describe where the job runs", lambda: self.platform.metadata, {}),
        )
        # No caller waits for the response of a job.
        self.invocation.state.patience = guard.settings.exit_timeout
        self.invocation.state.announces_waits = True
        configured_grace = guard.settings.grace if grace is None else contained(
            "read the grace", lambda: _seconds("grace", grace, None), None
        )
        self._grace = self.platform.grace if configured_grace is None else configured_grace
        self._heartbeat_seconds = contained(
            "read the heartbeat", lambda: _seconds("heartbeat", heartbeat, HEARTBEAT_SECONDS), HEARTBEAT_SECONDS
        )
        self._fail_if = fail_if
        self._counters = StepCounters()
        self._progress = Progress(chosen) if progress else None
        self._heartbeat: Heartbeat | None = None
        self._signals: JobSignals | None = None
        self._leave: Callable[[], object] = lambda: None
        self._workers: list[Workers] = []

    @property
    def name(self) -> str:
        """The name of the root span."""
        return self.invocation.name

    @property
    def span(self) -> Any:
        """The root's Braintrust span; None before the job opens."""
        return self.invocation.span

    @property
    def is_live(self) -> bool:
        """True between opening and end, also within another invocation."""
        state = self.invocation.state
        return state.is_live or (state.outer is not None and not state.is_closed)

    def step(self, name: str, *, input: Any = NOTHING, metadata: Mapping[str, Any] | None = None) -> Step:
        """A part of the job, for ``with`` and ``async with``. See :func:`trace_guard.step`."""
        return Step(name, self, input=input, metadata=metadata)

    def process(
        self,
        items: Items[T],
        function: Callable[[T], R],
        *,
        workers: int = 8,
        name: str | None = None,
        on_error: str = "continue",
        in_order: bool = True,
    ) -> Processing[T, R]:
        """Call a function with each item, in threads. Each call is a step. See :func:`trace_guard.process`."""
        return Processing(
            items, function, self, workers=workers, name=name, on_error=on_error, in_order=in_order
        )

    def count(self, key: str, by: int = 1) -> None:
        """Add to a counter. It is logged at the end as ``metadata["job"][key]`` of the root span."""
        self.invocation.count("job", key, by)

    # Opening and closing

    def __enter__(self) -> Job:
        return self.open()

    async def __aenter__(self) -> Job:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(error)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose(error)

    def open(self) -> Job:
        """Open the root span, in code that can't use ``with`` and so must call :meth:`close`. Only the first call has
        an effect."""
        if self.invocation.span is not None:
            return self
        settings = self.invocation.guard.settings
        if current_invocation() is None and not settings.disabled:
            with contain("install signal handlers"):
                patience = min(self._grace - settings.reserve, settings.exit_timeout)
                signals = JobSignals(self._grace, patience, self._stop)
                if signals.install():
                    self._signals = signals
        try:
            self.invocation.open()
        except BaseException:  # the invocation has closed itself
            self._release()
            raise
        with contain("begin a job"):
            self._leave = current.enter(self)
            if self.invocation.is_live:
                watchdog = self.invocation.state.pipeline.watchdog
                self._heartbeat = Heartbeat(watchdog, self._report, self._heartbeat_seconds)
                self._heartbeat.start()
        return self

    def close(self, error: BaseException | None = None, *, output: Any = NOTHING) -> Delivery | None:
        """Close the open spans and deliver, like the end of a ``with`` block. Only the first call has an effect.

        Without an error, it waits for the items that are in progress.
        """
        try:
            self._before_end(error, waits=error is None)
            return self._delivered(self.invocation.close(failure(error), output=output))
        finally:
            self._release()

    async def aclose(self, error: BaseException | None = None, *, output: Any = NOTHING) -> Delivery | None:
        """:meth:`close` without blocking the event loop, and so without waiting for items.

        A delivery that takes long is waited for when the process exits.
        """
        try:
            self._before_end(error, waits=False)
            return self._delivered(await self.invocation.aclose(failure(error), output=output))
        finally:
            self._release()

    @staticmethod
    def _delivered(delivery: Delivery | None) -> Delivery | None:
        if delivery is not None:
            PROCESS.has_waited(delivery.seconds if delivery.verdict is Verdict.SPOOLED else 0.0)
        return delivery

    def _before_end(self, error: BaseException | None, *, waits: bool) -> None:
        if not self.invocation.state.is_ours:
            return  # the job belongs to the parent process
        self.invocation.state.patience = min(self.invocation.state.patience, PROCESS.end.remaining)
        try:
            with contain("end a job"):
                for workers in self._workers:
                    workers.stop(waits)
                self._record_end(error)
        except BaseException as interruption:  # a signal interrupted the wait, and no other code would close it
            self.invocation.close(interruption)
            raise

    def _record_end(self, error: BaseException | None) -> None:
        if self._progress is not None:
            self._progress.show(self._counters.snapshot(), self._counters.expected, is_last=True)
            self._progress.close()
        invocation = self.invocation
        facts = self._facts()
        if isinstance(error, SystemExit):
            facts["exit_code"] = exit_code(error)
        signal = self._signals.received(error) if self._signals is not None else None
        if signal is not None:
            facts["signal"] = signal
            if is_end_by(signal, error):
                # The signal ended the job, not an error. The lock orders this and a forced close.
                state = invocation.state
                with state.lock:
                    state.outcome = state.outcome or Outcome.TERMINATED
        if facts:
            invocation.note({"job": facts})
        if self._fail_if is not None and failure(error) is None:
            self._judge(self._fail_if)

    def _judge(self, fail_if: FailIf) -> None:
        """Make a job that raised nothing an error if too many of its steps have failed."""
        counts = self._counters.snapshot()
        with contain("call fail_if"):
            if has_failed(fail_if, counts):
                total = sum(counts.values())
                self.invocation.fail(f"{counts['failed']} of {total} steps failed")

    def leave(self) -> None:
        """Restore the outer context. Call it in the context that opened the job; :meth:`close` also calls it."""
        leave, self._leave = self._leave, lambda: None
        leave()
        self.invocation.leave()

    def _release(self) -> None:
        with contain("release the signal handlers and the context of a job"):
            self._leave()
            current.forget(self)
            if self._heartbeat is not None:
                self._heartbeat.stop()
            if self._signals is not None:
                self._signals.uninstall()

    # Called by steps and signals

    def add_workers(self, workers: Workers) -> None:
        """Make the job wait for these workers at its end."""
        self._workers = [*(other for other in self._workers if not other.are_done), workers]

    def step_ended(self, end: str) -> None:
        """Count the end of a step: ``done``, ``failed`` or ``skipped``."""
        self._counters.count(end)
        if self._progress is not None:
            self._progress.show(self._counters.snapshot(), self._counters.expected)

    def expect_steps(self, more: int | None) -> None:
        """Announce more steps. None: their number is not known."""
        self._counters.expect(more)

    def _facts(self) -> dict[str, Any]:
        steps = self._counters.snapshot()
        return {"steps": steps} if any(steps.values()) else {}

    def _report(self) -> None:
        """Write a heartbeat and the step counts."""
        invocation = self.invocation
        if invocation.is_live and invocation.state.pipeline.spans.is_open(invocation.span.id):
            invocation.state.pipeline.append([{
                **PROCESS.sdk.identity_of(invocation.span), "_is_merge": True,
                "metadata": {"trace_guard": {"heartbeat": time.time()}, "job": self._facts()},
            }])

    def _stop(self, is_last: bool) -> None:
        """Prepare for the forced close by a signal. ``is_last``: the process ends after it."""
        if is_last:
            for workers in self._workers:
                workers.stop(False)
            if self._progress is not None:
                self._progress.close()
        self._report()
