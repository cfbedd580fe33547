"""The Lambda Extensions API, by which others than the runtime take part in an environment's life.

https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html is the reference; who is refused, and in
which words, follows aws-lambda-runtime-interface-emulator.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeAlias

from .http_wire import Request, Response
from .loopback import Route
from .runtime_api import Invocation, RuntimeApi, no_transition, refusal

__all__ = ["Extension", "ExtensionsApi", "Registration", "ShutdownReason"]

Registration: TypeAlias = Literal["open", "closed", "managed"]
ShutdownReason: TypeAlias = Literal["spindown", "timeout", "failure"]

_INVOKE, _SHUTDOWN = "INVOKE", "SHUTDOWN"
_MOST_EXTENSIONS = 10


@dataclass
class Extension:
    """One extension; an external one is known before it registers.

    Attributes:
        external: True for a program of its own, False for a part of the runtime's process.
        events: what it has subscribed to; None until it registers.
        waits: True from when it asks for an event until one is there for it.
        pending: what is there for it, until it is fetched.
        error: why it gives up, if it said so.
    """

    name: str
    external: bool
    events: frozenset[str] | None = None
    waits: bool = False
    pending: deque[dict[str, Any]] = field(default_factory=deque)
    error: str | None = None
    identifier: str = field(default_factory=lambda: str(uuid.uuid4()))


class ExtensionsApi(RuntimeApi):
    """The Runtime API with extensions: an init ends, and an invocation does, when they have asked for the next event.

    One that has not subscribed to INVOKE has to ask once, during the init, and is left to wait from then on.

    Args:
        function: what is told to those who register: name, version and handler.
        external: the names of the external extensions; who registers by another name is an internal one.
        registration: ``open``; ``closed`` refuses everybody; ``managed`` knows no INVOKE, as managed instances do.
    """

    ROUTES: ClassVar[Sequence[Route]] = (
        *RuntimeApi.ROUTES,
        Route("POST", "/2020-01-01/extension/register", "register"),
        Route("GET", "/2020-01-01/extension/event/next", "next_extension_event"),
        Route("POST", "/2020-01-01/extension/init/error", "extension_error"),
        Route("POST", "/2020-01-01/extension/exit/error", "extension_error"),
    )

    def __init__(
        self,
        changed: threading.Condition,
        *,
        function: dict[str, str],
        external: Iterable[str] = (),
        registration: Registration = "open",
    ) -> None:
        self._function = function
        self._registration = registration
        self._extensions = {name: Extension(name, external=True) for name in external}
        super().__init__(changed)

    @property
    def extensions(self) -> list[Extension]:
        """The external ones, and the internal ones that have registered."""
        return list(self._extensions.values())

    def everyone_waits(self) -> bool:
        return super().everyone_waits() and all(each.waits for each in self.extensions)

    def everyone_registered(self) -> bool:
        """True if the runtime may start: no external extension is still to register."""
        return all(each.events is not None for each in self.extensions)

    def announce_shutdown(self, reason: ShutdownReason, deadline_ms: int) -> set[str]:
        """Hand the last event to the external extensions that want it; their names."""
        with self.changed:
            told = [each for each in self.extensions if each.external and _SHUTDOWN in (each.events or ())]
            for each in told:
                _release(each, {"eventType": _SHUTDOWN, "shutdownReason": reason, "deadlineMs": deadline_ms})
            self.changed.notify_all()
        return {each.name for each in told}

    def register(self, request: Request) -> Response:
        name = request.headers.get("lambda-extension-name", "")
        if not name:
            return _forbidden("InvalidExtensionName", "Empty extension name")
        events = _events(request.body)
        if events is None:
            return refusal(403, "InvalidRequestFormat", "the body is not an object with a list of events")
        with self.changed:
            extension = self._extensions.get(name) or Extension(name, external=False)
            refused = self._why_not(extension, events)
            if refused is not None:
                return refused
            extension.events = frozenset(events)
            self._extensions[name] = extension
            self.changed.notify_all()
        return Response.json(self._function, headers={"Lambda-Extension-Identifier": extension.identifier})

    def _why_not(self, extension: Extension, events: Sequence[str]) -> Response | None:
        if self._registration == "closed":
            return _forbidden("RegistrationClosed", "Extension registration closed already")
        managed = self._registration == "managed"
        if managed and events and not extension.external:
            return _forbidden("InvalidEventType", "No events allowed for internal extensions")
        for event in events:
            if event != _SHUTDOWN and (managed or event != _INVOKE):
                return _forbidden("InvalidEventType", f"{event}: ErrorInvalidEventType")
            if event == _SHUTDOWN and not extension.external:
                why = "ShutdownEventNotSupportedForInternalExtension"
                return _forbidden("InvalidEventType", f"{event}: {why}")
        if self.runtime_asked and not extension.external:
            return _forbidden("RegistrationClosed", "Extension registration closed already")
        if len(self._extensions) >= _MOST_EXTENSIONS and not extension.external:
            return _forbidden("TooManyExtensions", f"Extension limit ({_MOST_EXTENSIONS}) reached")
        if extension.events is not None:
            return _forbidden("InvalidExtensionState", "Extension with this name already registered")
        return None

    def next_extension_event(self, request: Request) -> Response | None:
        extension = self._extension_of(request)
        if isinstance(extension, Response):
            return extension
        with self.changed:
            if extension.waits:
                of = f"extension {extension.identifier}"
                return no_transition("Ready", "Ready", of=of, kind="Extension.InvalidExtensionState")
            # One that was busy when its shutdown came finds that here.
            extension.waits = not extension.pending
        self.settle()
        with self.changed:
            self.changed.wait_for(lambda: extension.pending or self.closing.is_set())
            if not extension.pending:
                return None
            event = extension.pending.popleft()
        return Response.json(event, headers={"Lambda-Extension-Event-Identifier": str(uuid.uuid4())})

    def extension_error(self, request: Request) -> Response:
        extension = self._extension_of(request)
        if isinstance(extension, Response):
            return extension
        kind = request.headers.get("lambda-extension-function-error-type")
        if not kind:
            return _forbidden("MissingHeader", "Lambda-Extension-Function-Error-Type not found")
        # Nothing follows from it by itself: the extension is expected to exit.
        extension.error = "Extension.InitError" if "/init/" in request.path else "Extension.ExitError"
        return Response.json({"status": "OK"}, 202)

    def _hand_over(self, invocation: Invocation) -> None:
        super()._hand_over(invocation)
        for each in self.extensions:
            if _INVOKE in (each.events or ()):
                _release(each, _invoke_event(invocation))

    def _extension_of(self, request: Request) -> Extension | Response:
        identifier = request.headers.get("lambda-extension-identifier", "")
        if not identifier:
            return _forbidden("MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
        for each in self.extensions:
            if each.identifier == identifier and each.events is not None:
                return each
        try:
            uuid.UUID(identifier)
        except ValueError:
            return _forbidden("InvalidExtensionIdentifier", "Invalid Lambda-Extension-Identifier")
        return _forbidden("UnknownExtensionIdentifier", f"Unknown extension {identifier}")


def _release(extension: Extension, event: dict[str, Any]) -> None:
    extension.waits = False
    extension.pending.append(event)


def _invoke_event(invocation: Invocation) -> dict[str, Any]:
    return {
        "eventType": _INVOKE,
        "deadlineMs": invocation.deadline_ms,
        "requestId": invocation.request_id,
        "invokedFunctionArn": invocation.function_arn,
        "tracing": {"type": "X-Amzn-Trace-Id", "value": invocation.trace_header},
    }


def _events(body: bytes) -> list[str] | None:
    """What a registration subscribes to; None if it is malformed."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    events = found.get("events", []) if isinstance(found, dict) else None
    return events if isinstance(events, list) and all(isinstance(each, str) for each in events) else None


def _forbidden(kind: str, message: str) -> Response:
    return refusal(403, f"Extension.{kind}", message)
