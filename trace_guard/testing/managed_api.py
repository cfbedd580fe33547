"""The Runtime API on managed instances, where several workers of one environment ask for events at the same time.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-managed-instances-execution-environment.html
"""

from __future__ import annotations

import threading
import time
from collections import deque

from .extensions_api import ExtensionsApi
from .http_wire import Request, Response
from .runtime_api import Invocation, as_event, no_transition, refusal

__all__ = ["ManagedApi"]


class ManagedApi(ExtensionsApi):
    """Hands each event to the worker that asks first. Nothing is frozen, and timeouts end nothing.

    Attributes:
        asked: how often a worker has asked for an event.
    """

    def __init__(self, changed: threading.Condition, *, function: dict[str, str]) -> None:
        self._waiting: deque[Invocation] = deque()
        self._handed: dict[str, Invocation] = {}
        self.asked = 0
        super().__init__(changed, function=function, registration="managed")

    def offer(self, invocation: Invocation) -> None:
        with self.changed:
            self._waiting.append(invocation)
            self.changed.notify_all()

    def next_event(self, request: Request) -> Response | None:
        self.runtime_asked = True
        with self.changed:
            self.ready_at = self.ready_at or time.monotonic()
            self.asked += 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.closing.is_set() or self._waiting)
            if self.closing.is_set():
                return None
            invocation = self._waiting.popleft()
            invocation.handed_at = time.monotonic()
            invocation.deadline_ms = int((time.time() + invocation.timeout) * 1000)
            self._handed[invocation.request_id] = invocation
            self.changed.notify_all()
        return as_event(invocation)

    def _take_result(
        self, request_id: str, result: bytes, *, failed: bool = False, kind: str = "InvocationResponse"
    ) -> Response:
        with self.changed:
            invocation = self._handed.get(request_id)
            if invocation is None:
                return refusal(400, "InvalidRequestID", "Invalid request ID")
            if invocation.returned_at is not None:
                return no_transition("RuntimeResponseSentState", kind)
            invocation.returned_at = time.monotonic()
            invocation.result, invocation.failed = result, failed
            self.changed.notify_all()
        return Response.json({"status": "OK"}, 202)
