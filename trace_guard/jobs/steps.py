"""The steps of a job. Each has a span and is counted on the job's root."""

from __future__ import annotations

import contextvars
import time
from collections.abc import Mapping
from types import TracebackType
from typing import Any

from ..contain import contain
from ..deadline import Deadline
from ..invocation.captured import captured_input, captured_output
from ..invocation.forced_close import DRAIN_SECONDS
from ..invocation.invocation import NOTHING, live_invocation
from ..payload import Payload
from ..runtime.state import PROCESS
from ..system.clock import monotonic
from .current import RunningJob
from .exits import failure

__all__ = ["Step", "current_step"]

_current: contextvars.ContextVar[Step | None] = contextvars.ContextVar("trace_guard_step", default=None)


def current_step() -> Step:
    """The step that this code runs in. Outside any step, a step that does nothing."""
    return _current.get() or Step("no step", None)


class Step:
    """A part of a job, made by :func:`trace_guard.step`. Use it with ``with`` or ``async with``.

    The parent of its span is the current span, else the job's root. An exception is logged on the span and re-raised.
    Internal faults are logged. No method raises because of one.

    Args:
        is_expected: the job's progress counts it among the expected steps already.

    Attributes:
        span: the step's Braintrust span, which is current inside the block.
    """

    def __init__(
        self, name: str, job: RunningJob | None, *, input: Any = NOTHING, metadata: Mapping[str, Any] | None = None,
        is_expected: bool = False,
    ) -> None:
        self.name = name
        self._is_expected = is_expected
        self.span: Any = None
        self._job = job
        self._input = input
        self._metadata = metadata
        self._outer: Step | None = None
        self._skipped: str | None = None
        self._started = self._began = 0.0

    def skip(self, reason: str = "") -> None:
        """Count the step as skipped, not as done. The code in the block continues."""
        self._skipped = reason

    def set_output(self, value: Any) -> None:
        """Log the output on the span, redacted and cut, if outputs are captured."""
        with contain("log the output of a step"):
            guard = None if self._job is None else self._job.invocation.guard
            output = self._payload.copy(value) if guard is None else captured_output(guard, value)
            if output is not NOTHING and self.span is not None:
                self.span.log(output=output)

    def __enter__(self) -> Step:
        try:
            with contain("begin a step"):
                self.span = PROCESS.sdk.no_span
                if self._job is not None and not self._is_expected:
                    self._job.expect_steps(1)
                self._open()
        except BaseException as error:
            self._leave(error)  # a signal handler raised, and no other code would end the span
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._leave(failure(error))
        except BaseException as interruption:
            with contain("end a step after a time limit"):
                self.span.log(error=PROCESS.sdk.error_text(interruption))
                self.span.end()
            raise
        if live_invocation() is None:
            with contain("deliver a step of no job"):
                # No invocation will drain the queue, and a pool may kill its child without a normal exit.
                PROCESS.sdk.drain(Deadline.after(DRAIN_SECONDS))

    async def __aenter__(self) -> Step:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def _open(self) -> None:
        self._outer = _current.get()
        event: dict[str, Any] = {}
        if self._input is not NOTHING:
            guard = None if self._job is None else self._job.invocation.guard
            input = self._payload.copy(self._input) if guard is None else captured_input(guard, self._input)
            if input is not NOTHING:
                event["input"] = input
        if self._metadata:
            event["metadata"] = dict(self._metadata)
        self._started, self._began = time.time(), monotonic()
        root = None if self._job is None else self._job.span
        self.span = PROCESS.sdk.loggers.start_step(self.name, root, event, self._started)
        self.span.__enter__()
        self._input = NOTHING
        _current.set(self)

    def _leave(self, error: BaseException | None) -> None:
        """Restore the outer step, end the span and count the step."""
        try:
            with contain("end a step"):
                if _current.get() is self:
                    _current.set(self._outer)
                if error is None and self._skipped is not None:
                    self.span.log(metadata={"step": {"skipped": self._skipped or True}})
                if self.span is not None:  # else a time limit has come before there was one
                    # By the monotonic clock: the other one may have been set meanwhile.
                    PROCESS.sdk.leave_span(self.span, error, self._started + monotonic() - self._began)
        finally:
            if self._job is not None:
                self._job.step_ended("failed" if error is not None else "done" if self._skipped is None else "skipped")

    @property
    def _payload(self) -> Payload:
        return Payload() if self._job is None else self._job.invocation.guard.payload
