"""The part of the Runtime API that restores a function from a snapshot.

The runtime asks to be restored when its init is over. The service then takes the snapshot, and answers in each
environment that is created from it. Here the only environment is the process itself, which is frozen meanwhile.

https://docs.aws.amazon.com/lambda/latest/dg/snapstart-runtime-hooks.html; the paths are those of awslambdaric.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import ClassVar

from .extensions_api import ExtensionsApi
from .http_wire import Request, Response
from .loopback import Route

__all__ = ["SnapStartApi"]


class SnapStartApi(ExtensionsApi):
    """Freezes a runtime that asks to be restored, and restores it when there is an event."""

    ROUTES: ClassVar[Sequence[Route]] = (
        *ExtensionsApi.ROUTES,
        Route("GET", "/2018-06-01/runtime/restore/next", "restore"),
        Route("POST", "/2018-06-01/runtime/restore/error", "restore_error"),
    )

    def restore(self, request: Request) -> Response | None:
        self.runtime_asked = True
        self._runtime_waits = True
        self.settle()
        with self.changed:
            self.changed.wait_for(lambda: self.closing.is_set() or (self._pending and self.everyone_waits()))
            if self.closing.is_set():
                return None
            with self._turn:
                self._runtime_waits = False
                self.restoring_since = time.monotonic()
                self.thaw()
            self.changed.notify_all()
        return Response.json({})

    def restore_error(self, request: Request) -> Response:
        return self.initialization_error(request)

    def next_event(self, request: Request) -> Response | None:
        self.restoring_since = None
        return super().next_event(request)
