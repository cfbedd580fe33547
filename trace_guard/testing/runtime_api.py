"""The Lambda Runtime API, from which a runtime fetches events and to which it posts results.

The reference is https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html. Refusals and the service's own
errors follow aws-lambda-runtime-interface-emulator.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from .http_wire import Request, Response
from .loopback import LoopbackServer, Route, find_route

__all__ = ["Invocation", "RuntimeApi", "as_event", "no_transition", "refusal"]

MOST_RESPONSE_BYTES = 6 * 1024 * 1024 + 100
"""6 MB (https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html), and what comes on top."""


@dataclass
class Invocation:
    """One event on its way through the runtime. Points in time are on the monotonic clock, in seconds.

    Attributes:
        event: the payload, as JSON.
        timeout: seconds from :attr:`handed_at` to its deadline.
        client_context: what the caller put into its client context, as JSON.
        trace_header: the X-Ray header.
        handed_at: when the runtime got it.
        deadline_ms: its deadline, in milliseconds since the epoch, once it is handed over.
        returned_at: when the caller got the response or error.
        finished_at: when everything had asked for the next event.
    """

    event: bytes
    timeout: float
    function_arn: str
    client_context: str | None = None
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    trace_header: str = field(default_factory=lambda: _trace_header())
    handed_at: float | None = None
    deadline_ms: int = 0
    returned_at: float | None = None
    finished_at: float | None = None
    failed: bool = False
    result: bytes = b""


class RuntimeApi(LoopbackServer):
    """Serves one life of an execution environment; the next one gets an API of its own.

    Another endpoint is a line more in :attr:`ROUTES` and a method of that name, in a subclass. Whoever takes
    part in deciding when the environment is idle, as an extension does, extends :meth:`everyone_waits` and
    calls :meth:`settle`.

    Args:
        changed: guards the state, and is notified when it changes.
        freeze: called the moment that nothing is left to do.
        thaw: called when an event is handed over.

    Attributes:
        runtime_asked: True once the runtime has asked for an event.
        ready_at: when the first event could have been handed over, on the monotonic clock; None during init.
        init_error: what it posted as the reason why it can't start.
        restoring_since: when its restore from a snapshot began, on the monotonic clock, while that is under way.
    """

    ROUTES: ClassVar[Sequence[Route]] = (
        Route("GET", "/2018-06-01/runtime/invocation/next", "next_event"),
        Route("POST", "/2018-06-01/runtime/invocation/{request_id}/response", "response"),
        Route("POST", "/2018-06-01/runtime/invocation/{request_id}/error", "error"),
        Route("POST", "/2018-06-01/runtime/init/error", "initialization_error"),
    )

    def __init__(self, changed: threading.Condition) -> None:
        self.changed = changed
        self.freeze: Callable[[], None] = lambda: None
        self.thaw: Callable[[], None] = lambda: None
        self.ready_at: float | None = None
        self.init_error: bytes | None = None
        self.restoring_since: float | None = None
        self.runtime_asked = False
        self._runtime_waits = False
        self._retired = False
        self._pending: Invocation | None = None
        self._current: Invocation | None = None
        # Several threads may notice at once that all is done; the last must not freeze what the next event has
        # thawed. A separate lock that is held briefly, as the function keeps running meanwhile.
        self._turn = threading.Lock()
        super().__init__()

    def offer(self, invocation: Invocation) -> None:
        """Hand this event over when the runtime asks for one, or now if it already waits."""
        with self.changed:
            self._pending = invocation
            self.changed.notify_all()

    def everyone_waits(self) -> bool:
        """True if the runtime and all extensions have asked for the next event."""
        return self._runtime_waits

    def settle(self) -> None:
        """Freeze if there is nothing left to do until the next event."""
        with self._turn:
            if self._retired or not self.everyone_waits():
                return
            finished = time.monotonic()
            self.ready_at = self.ready_at or finished
            if self._pending is None:
                self.freeze()
                if self._current is not None and self._current.finished_at is None:
                    self._current.finished_at = finished
        with self.changed:
            self.changed.notify_all()

    def retire(self) -> None:
        """Accept no more answers and hand out no more events, as the environment is ending."""
        with self.changed, self._turn:
            self._retired = True
            self._pending = self._current = None

    def close(self) -> None:
        self.closing.set()
        with self.changed:
            self.changed.notify_all()
        super().close()

    def respond(self, request: Request) -> Response | None:
        found = find_route(self.ROUTES, request)
        if found is None:
            if any(route.match(route.method, request.path) is not None for route in self.ROUTES):
                return Response(405)
            return Response(404, b"404 page not found\n", {"Content-Type": "text/plain; charset=utf-8"})
        route, fields = found
        handler: Callable[..., Response | None] = getattr(self, route.name)
        return handler(request, **fields)

    def next_event(self, request: Request) -> Response | None:
        if self._current is not None and self._current.returned_at is None:
            return as_event(self._current)  # the same event again, for a runtime that lost it
        self.runtime_asked = True
        self._runtime_waits = True
        self.settle()
        with self.changed:
            self.changed.wait_for(lambda: self.closing.is_set() or (self._pending and self.everyone_waits()))
            invocation, self._pending = self._pending, None
            if invocation is None or self.closing.is_set():
                return None
            with self._turn:
                self._hand_over(invocation)
                self.thaw()
            self.changed.notify_all()
        return as_event(invocation)

    def _hand_over(self, invocation: Invocation) -> None:
        """Record that the runtime now has this event."""
        self._runtime_waits = False
        self._current = invocation
        invocation.handed_at = time.monotonic()
        invocation.deadline_ms = int((time.time() + invocation.timeout) * 1000)

    def response(self, request: Request, request_id: str) -> Response:
        if len(request.body) <= MOST_RESPONSE_BYTES:
            return self._take_result(request_id, request.body)
        limit = f"maximum allowed payload size ({MOST_RESPONSE_BYTES} bytes)."
        told = refusal(413, "Function.ResponseSizeTooLarge", f"Response payload size exceeded {limit}")
        taken = self._take_result(request_id, told.body, failed=True)
        return refusal(413, "RequestEntityTooLarge", f"Exceeded {limit}") if taken.status == 202 else taken

    def error(self, request: Request, request_id: str) -> Response:
        return self._take_result(request_id, request.body, failed=True, kind="InvocationErrorResponse")

    def initialization_error(self, request: Request) -> Response:
        with self.changed:
            if self._current is not None:
                return no_transition(self._state, "InitError")
            self.init_error = request.body
            self.changed.notify_all()
        return Response.json({"status": "OK"}, 202)

    @property
    def _state(self) -> str:
        """The service's name for the state of a runtime that has an event."""
        return "Running" if self._current and self._current.returned_at is None else "RuntimeResponseSentState"

    def _take_result(
        self, request_id: str, result: bytes, *, failed: bool = False, kind: str = "InvocationResponse"
    ) -> Response:
        with self.changed:
            current = self._current
            if current is None or current.request_id != request_id:
                return refusal(400, "InvalidRequestID", "Invalid request ID")
            if current.returned_at is not None:
                return no_transition(self._state, kind)
            current.returned_at = time.monotonic()
            current.result = result
            current.failed = failed
            self.changed.notify_all()
        return Response.json({"status": "OK"}, 202)


def as_event(invocation: Invocation) -> Response:
    """The response that hands an event to a runtime."""
    headers = {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": invocation.function_arn,
        "Lambda-Runtime-Trace-Id": invocation.trace_header,
    }
    if invocation.client_context is not None:
        headers["Lambda-Runtime-Client-Context"] = invocation.client_context
    return Response(200, invocation.event, headers)


def _trace_header() -> str:
    unique = uuid.uuid4().hex
    return f"Root=1-{int(time.time()):08x}-{unique[:24]};Parent={unique[16:]};Sampled=0"


def refusal(status: int, kind: str, message: str) -> Response:
    """An error in the service's format."""
    return Response.json({"errorType": kind, "errorMessage": message}, status)


def no_transition(
    before: str, after: str, *, of: str = "runtime", kind: str = "InvalidStateTransition"
) -> Response:
    """The refusal of a call that is not allowed in the current state."""
    why = "State transition is not allowed"
    return refusal(403, kind, f"State transition from {before} to {after} failed for {of}. Error: {why}")
