"""Delivery after the response and before the freeze.

The freeze waits for three things. In order of preference they are the internal extension, the layer's external
extension, and the runtime itself between its response and its request for the next event. Without any of them, rows are
delivered before the response.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from trace_guard import Deadline, Guard, Invocation
from trace_guard.contain import contain, logger
from trace_guard.outcome import Way

if TYPE_CHECKING:
    from trace_guard.runtime.pipeline import Pipeline

    from .extension import Extension
    from .external.link import Link

__all__ = ["AfterResponse", "Deliver"]

Deliver = Callable[[Deadline, Way], object]
"""Delivers the rows of one invocation until the deadline, in the given way."""

# The most seconds for work after the deliveries, and for the delivery of a corrected outcome.
_LAST_SECONDS = 1.0
_MARGIN_SECONDS = 0.3


class AfterResponse:
    """Schedules deliveries during an invocation and runs them after its response. A process has one.

    Attributes:
        when_delivered: called with a deadline after the deliveries.
    """

    def __init__(self) -> None:
        self.when_delivered: Callable[[Deadline], object] | None = None
        self._lock = threading.Lock()
        self._deliveries: list[tuple[Pipeline | None, Deliver]] = []
        self._is_listening = False
        self._extension: Extension | None = None
        self._link: Link | None = None
        self._prepared = False
        self._request: tuple[str | None, Invocation | None] = (None, None)
        self._deadline = Deadline.after(0)

    def prepare(self) -> None:
        """Set up the best way that this environment supports. Only the first call, in the init phase, does anything."""
        if self._prepared:
            return
        self._prepared = True
        from .runtime_client import listen

        # The extension needs the runtime client's calls to know when an event is over.
        self._is_listening = listen(self)
        address = os.environ.get("AWS_LAMBDA_RUNTIME_API")
        if not self._is_listening or not address:
            logger.debug("delivery comes before the response: this is not Lambda's own runtime")
            return
        if is_managed_instance():
            return
        from .extension import register

        self._extension = register(address, self._run_deliveries)

    def connect(self, guard: Guard) -> None:
        """Connect to the layer's extension if there is one. Call it after :meth:`prepare`."""
        if self._link is None:
            from .external.link import connect

            self._link = connect(guard, holds_freeze=self._is_listening and self._extension is None)

    def begin(self, request_id: str | None, invocation: Invocation) -> None:
        """Remember the invocation, whose result the runtime may still refuse, and announce it to the extension."""
        self._request = (request_id, invocation)
        if self._link is not None:
            self._link.begin(request_id, invocation.deadline.epoch)
        self._deadline = invocation.deadline.minus(_MARGIN_SECONDS)

    def schedule(self, invocation: Invocation, deliver: Deliver) -> Way | None:
        """Schedule ``deliver`` after the response to the invocation. Returns how it will be delivered, or None."""
        if not self._is_listening:
            return None
        pipeline = invocation.state.pipeline
        with self._lock:
            self._deliveries.append((pipeline, deliver))
        if self._extension is not None and self._extension.will_deliver:
            return Way.INTERNAL_EXTENSION
        return Way.EXTERNAL_EXTENSION if self._is_shared(pipeline) else Way.BEFORE_NEXT_EVENT

    def _is_shared(self, pipeline: Pipeline | None) -> bool:
        """True if the external extension delivers for this pipeline. It does not know the journals of other
        destinations."""
        return self._link is not None and self._link.holds_freeze and pipeline is self._link.pipeline

    def _pop(self, selects: Callable[[Pipeline | None], bool]) -> Deliver | None:
        with self._lock:
            for index, (pipeline, deliver) in enumerate(self._deliveries):
                if selects(pipeline):
                    del self._deliveries[index]
                    return deliver
        return None

    def _run_deliveries(
        self,
        deadline: Deadline,
        way: Way = Way.INTERNAL_EXTENSION,
        selects: Callable[[Pipeline | None], bool] = lambda pipeline: True,
    ) -> bool:
        """Run the deliveries of the selected pipelines. Returns False if there are none."""
        # Each is popped before it runs, so a SystemExit, which is not contained, leaves the others scheduled.
        has_run = False
        while (deliver := self._pop(selects)) is not None:
            has_run = True
            with contain("deliver after the response"):
                deliver(deadline, way)
        if has_run and self.when_delivered is not None:
            self.when_delivered(deadline.capped(_LAST_SECONDS))
        return has_run

    # Calls of the runtime's client (Listener)

    def event_came(self, request_id: str | None) -> None:
        if self._extension is not None:
            self._extension.event_came(request_id)

    def before_next(self) -> None:
        extension, link = self._extension, self._link
        if link is not None:
            with contain("have the external extension deliver"):
                deliver = self._run_deliveries(self._deadline, Way.EXTERNAL_EXTENSION, self._is_shared)
                if not link.end(deliver=deliver) and deliver:
                    link.pipeline.courier.drain(self._deadline)
        if extension is None or not extension.runtime_polls():
            self._run_deliveries(self._deadline, Way.BEFORE_NEXT_EVENT)

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
    """The type and message in the JSON that the runtime posts."""
    try:
        posted = json.loads(error)
        return f"{posted['errorType']}: {posted['errorMessage']}"
    except (ValueError, TypeError, KeyError):
        return str(error)[:1000]
