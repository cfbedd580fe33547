"""One run of a batch job: its root span, which says where it runs, how far it is, and that it is alive."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from ..contain import contain, contained
from ..invocation.invocation import NOTHING, Invocation, current_invocation
from ..invocation.state import GuardLike
from ..outcome import Delivery, Outcome, Verdict
from ..runtime.state import PROCESS
from . import current
from .counters import StepCounters
from .exits import exit_code, failure, is_end_by
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

class Job:
    """Made by :meth:`trace_guard.Guard.job`; use it with ``with`` or ``async with``.

    None of its methods raises for a fault of ours.

    ``SystemExit`` without an error, as of ``sys.exit()`` and ``sys.exit(0)``, is a good end. What a signal has ended is
    ``TERMINATED``: an exception of the kind that exits, after it came.

    Attributes:
        invocation: the guarded unit of work that it is.
        platform: where it runs.
    """

    def __init__(
        self,
        guard: GuardLike,
        name: str | None = None,
        *,
        fallback_name: str | None = None,
        grace: float | None = None,
        parent: str | Mapping[str, str] | None = None,
        input: Any = NOTHING,
        metadata: Mapping[str, Any] | None = None,
        tags: Sequence[str] | None = None,
        heartbeat: float = HEARTBEAT_SECONDS,
        progress: bool = True,
    ) -> None:
        self.platform: Platform = contained("find out where the job runs", detect, Platform({}))
        chosen = name or self.platform.job_name or fallback_name or current.program()
        self.invocation = Invocation(
            guard, chosen, parent=parent, input=input, metadata=metadata, tags=tags,
            platform=contained("describe where the job runs", lambda: self.platform.metadata, {}),
        )
        known = guard.settings.grace if grace is None else grace
        # Nobody waits for the response of a job.
        self.invocation.state.patience = guard.settings.exit_timeout
        self._grace = self.platform.grace if known is None else known
        self._heartbeat_seconds = heartbeat
        self._counters = StepCounters()
        self._progress = Progress(chosen) if progress else None
        self._heartbeat: Heartbeat | None = None
        self._signals: JobSignals | None = None
        self._leave: Callable[[], object] = lambda: None
        self._workers: list[Workers] = []

    @property
    def name(self) -> str:
        return self.invocation.name

    @property
    def span(self) -> Any:
        """The Braintrust span of the root; None before it is opened."""
        return self.invocation.span

    @property
    def is_live(self) -> bool:
        """True between its opening and its end, also within another invocation."""
        state = self.invocation.state
        return state.is_live or (state.outer is not None and not state.is_closed)

    def step(self, name: str, *, input: Any = NOTHING, metadata: Mapping[str, Any] | None = None) -> Step:
        """A part of the job, for ``with`` and ``async with``: see :func:`trace_guard.step`."""
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
        """Call a function with each item, in threads, each call a step: see :func:`trace_guard.process`."""
        return Processing(
            items, function, self, workers=workers, name=name, on_error=on_error, in_order=in_order
        )

    def count(self, key: str, by: int = 1) -> None:
        """Add to a counter, which stands in the root's metadata as ``metadata["job"][key]`` when it ends."""
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
        """Open the root span. For code that can't use ``with``; :meth:`close` is then its duty. Only the first call
        does anything."""
        if self.invocation.span is not None:
            return self
        settings = self.invocation.guard.settings
        if current_invocation() is None and not settings.disabled:
            with contain("listen to signals"):
                patience = min(self._grace - settings.reserve, settings.exit_timeout)
                signals = JobSignals(self._grace, patience, self._stop)
                if signals.install():
                    self._signals = signals
        try:
            self.invocation.open()
        except BaseException:  # it is closed by now
            self._let_go()
            raise
        with contain("begin a job"):
            self._leave = current.enter(self)
            if self.invocation.is_live:
                watchdog = self.invocation.guard.pipeline.watchdog
                self._heartbeat = Heartbeat(watchdog, self._report, self._heartbeat_seconds)
                self._heartbeat.start()
        return self

    def close(self, error: BaseException | None = None, *, output: Any = NOTHING) -> Delivery | None:
        """Close what is open and deliver it, as the end of a ``with`` block does; items that are being worked on are
        waited for, unless there is an error. Only the first call does anything."""
        try:
            self._before_end(error, waits=error is None)
            return self._delivered(self.invocation.close(failure(error), output=output))
        finally:
            self._let_go()

    async def aclose(self, error: BaseException | None = None, *, output: Any = NOTHING) -> Delivery | None:
        """:meth:`close` without holding up the event loop, and so without waiting for items."""
        try:
            self._before_end(error, waits=False)
            return self._delivered(await self.invocation.aclose(failure(error), output=output))
        finally:
            self._let_go()

    @staticmethod
    def _delivered(delivery: Delivery | None) -> Delivery | None:
        if delivery is not None:
            PROCESS.has_waited(delivery.seconds if delivery.verdict is Verdict.SPOOLED else 0.0)
        return delivery

    def _before_end(self, error: BaseException | None, *, waits: bool) -> None:
        if not self.invocation.state.is_ours:
            return  # it is the parent's to end
        self.invocation.state.patience = min(self.invocation.state.patience, PROCESS.end.remaining)
        try:
            with contain("end a job"):
                for workers in self._workers:
                    workers.stop(waits)
                self._take_leave(error)
        except BaseException as interruption:  # of the wait for its workers: nobody else would close it
            self.invocation.close(interruption)
            raise

    def _take_leave(self, error: BaseException | None) -> None:
        if self._progress is not None:
            self._progress.show(self._counters.taken(), self._counters.expected, is_last=True)
            self._progress.close()
        invocation = self.invocation
        facts = self._facts()
        if isinstance(error, SystemExit):
            facts["exit_code"] = exit_code(error)
        signal = self._signals.came(error) if self._signals is not None else None
        if signal is not None:
            facts["signal"] = signal
            if is_end_by(signal, error):
                # Not its own end, and not an error of it; as one step with an end before its time.
                state = invocation.state
                with state.lock:
                    state.outcome = state.outcome or Outcome.TERMINATED
        if facts:
            invocation.note({"job": facts})

    def leave(self) -> None:
        """Give the context back to the code that opened it; :meth:`close` does so, unless that was done before."""
        leave, self._leave = self._leave, lambda: None
        leave()
        self.invocation.leave()

    def _let_go(self) -> None:
        with contain("let go of signals and the context of a job"):
            self._leave()
            current.forget(self)
            if self._heartbeat is not None:
                self._heartbeat.stop()
            if self._signals is not None:
                self._signals.uninstall()

    # What others say to it

    def employ(self, workers: Workers) -> None:
        """They work for the job, which waits for them at its end."""
        self._workers = [*(one for one in self._workers if not one.are_over), workers]

    def stepped(self, end: str) -> None:
        """A step has ended: ``done``, ``failed`` or ``skipped``."""
        self._counters.count(end)
        if self._progress is not None:
            self._progress.show(self._counters.taken(), self._counters.expected)

    def expect(self, more: int) -> None:
        """There will be so many steps more."""
        self._counters.expect(more)

    def _facts(self) -> dict[str, Any]:
        steps = self._counters.taken()
        return {"steps": steps} if any(steps.values()) else {}

    def _report(self) -> None:
        """Write that it is alive, and how far it is."""
        invocation = self.invocation
        if invocation.is_live and invocation.guard.pipeline.spans.is_open(invocation.span.id):
            invocation.guard.pipeline.append([{
                **PROCESS.sdk.identity_of(invocation.span), "_is_merge": True,
                "metadata": {"trace_guard": {"heartbeat": time.time()}, "job": self._facts()},
            }])

    def _stop(self, is_last: bool) -> None:
        """A signal ends it before its time."""
        if is_last:
            for workers in self._workers:
                workers.stop(False)
            if self._progress is not None:
                self._progress.close()
        self._report()
