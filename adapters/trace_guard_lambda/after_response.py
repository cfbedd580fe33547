"""What is done after the response and before the freeze, by the best way that an environment has.

In this order: the internal extension, for which the freeze waits; the layer's external one, for which it waits as
well; the moment between the runtime's response and its asking for the next event, for which it waits too; before the
response, where none of them can be had.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trace_guard import Deadline, Invocation
from trace_guard.contain import contain, logger
from trace_guard.outcome import Way

if TYPE_CHECKING:
    from trace_guard.runtime.pipeline import Pipeline

    from .extension import Extension
    from .external.link import Link

__all__ = ["AfterResponse", "Job"]

Job = Callable[[Deadline, Way], object]

# A response that is refused, or the end of the time: what has to be said of that may take this long.
_LAST_SECONDS = 1.0
_MARGIN_SECONDS = 0.3


class AfterResponse:
    """Takes jobs during an invocation and does them after it. There is one for a process.

    Attributes:
        at_last: what is to be done when all jobs are.
    """

    def __init__(self) -> None:
        self.at_last: Callable[[Deadline], object] | None = None
        self._lock = threading.Lock()
        self._jobs: list[tuple[Pipeline | None, Job]] = []
        self._hears = False
        self._extension: Extension | None = None
        self._link: Link | None = None
        self._prepared = False
        self._request: tuple[str | None, Invocation | None] = (None, None)
        self._deadline = Deadline.after(0)

    def prepare(self) -> None:
        """Find out what this environment allows; once, while its init lasts."""
        if self._prepared:
            return
        self._prepared = True
        from .runtime_client import listen

        # Without word from the runtime the extension would not know when an event is over.
        self._hears = listen(self)
        address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
        if not self._hears or not address:
            logger.debug("trace-guard delivers before the response: this is not Lambda's own runtime")
            return
        if is_managed_instance():
            return
        from .extension import register

        self._extension = register(address, self._work)

    def connect(self, pipeline: Pipeline) -> None:
        """Let the layer's extension know of this process, if there is one; once, after :meth:`prepare`."""
        if self._link is None:
            from .external.link import connect

            self._link = connect(pipeline, gates=self._hears and self._extension is None)

    def begin(self, request_id: str | None, invocation: Invocation) -> None:
        """An invocation begins, of which the runtime may have more to say after its end."""
        self._request = (request_id, invocation)
        if self._link is not None:
            # A login within the invocation before takes effect now, and is news to the extension too.
            self._link.pipeline.announce()
            self._link.begin(request_id, invocation.deadline.epoch)
        self._deadline = invocation.deadline.minus(_MARGIN_SECONDS)

    def hand_over(self, invocation: Invocation, job: Job) -> Way | None:
        """Have ``job`` done after the response to this invocation; the way, or None if it can't be."""
        if not self._hears:
            return None
        pipeline = invocation.guard.pipeline
        with self._lock:
            self._jobs.append((pipeline, job))
        if self._extension is not None and self._extension.comes_after:
            return Way.INTERNAL_EXTENSION
        return Way.EXTERNAL_EXTENSION if self._is_shared(pipeline) else Way.BEFORE_NEXT_EVENT

    def _is_shared(self, pipeline: Pipeline | None) -> bool:
        """True if the external extension delivers for this pipeline; it does not for a guard with another destination,
        whose journal it does not know."""
        return self._link is not None and self._link.gates and pipeline is self._link.pipeline

    def _take(self, chosen: Callable[[Pipeline | None], bool]) -> Job | None:
        with self._lock:
            for index, (pipeline, job) in enumerate(self._jobs):
                if chosen(pipeline):
                    del self._jobs[index]
                    return job
        return None

    def _work(
        self,
        deadline: Deadline,
        way: Way = Way.INTERNAL_EXTENSION,
        chosen: Callable[[Pipeline | None], bool] = lambda pipeline: True,
    ) -> bool:
        """Do the jobs of the chosen pipelines; False if there was none."""
        # One by one: if a job says that the program is to exit, which is not contained, the others are still there.
        worked = False
        while (job := self._take(chosen)) is not None:
            worked = True
            with contain("deliver after the response"):
                job(deadline, way)
        if worked and self.at_last is not None:
            self.at_last(deadline.capped(_LAST_SECONDS))
        return worked

    # What the runtime's client says (Listener)

    def event_came(self, request_id: str | None) -> None:
        if self._extension is not None:
            self._extension.event_came(request_id)

    def before_next(self) -> None:
        extension, link = self._extension, self._link
        if link is not None:
            with contain("have the external extension deliver"):
                deliver = self._work(self._deadline, Way.EXTERNAL_EXTENSION, self._is_shared)
                if not link.end(deliver=deliver) and deliver:
                    link.pipeline.courier.drain(self._deadline)
        if extension is None or not extension.runtime_polls():
            self._work(self._deadline, Way.BEFORE_NEXT_EVENT)

    def error_posted(self, request_id: str, error: str) -> None:
        deliver = self._correct(request_id, lambda: _text_of(error))
        if deliver is not None:
            deliver(self._deadline.capped(_LAST_SECONDS))

    def result_refused(self, request_id: str, error: BaseException) -> None:
        deliver = self._correct(request_id, lambda: f"{type(error).__name__}: {error}")
        if deliver is not None:
            deliver(Deadline.after(_LAST_SECONDS))

    def _correct(self, request_id: str, text: Callable[[], str]) -> Callable[[Deadline], object] | None:
        latest, invocation = self._request
        if invocation is None or request_id != latest:
            return None
        return invocation.correct(f"the result was not accepted: {text()}")


def is_managed_instance() -> bool:
    """True on managed instances, where several workers share an environment that is never frozen.

    https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances.html
    """
    return bool(os.environ.get("AWS_LAMBDA_MAX_CONCURRENCY"))


def _text_of(error: Any) -> str:
    """What the runtime posts is JSON with these two."""
    try:
        told = json.loads(error)
        return f"{told['errorType']}: {told['errorMessage']}"
    except (ValueError, TypeError, KeyError):
        return str(error)[:1000]
