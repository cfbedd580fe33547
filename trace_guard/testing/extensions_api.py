"""The Lambda Extensions API, by which extensions take part in the environment's life cycle.

The reference is https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html. Refusals and their texts
follow aws-lambda-runtime-interface-emulator.
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
    """One extension. External ones are known before they register.

    Attributes:
        external: True for a separate program, False for a part of the runtime's process.
        events: the subscribed events; None until it registers.
        waits: True while it waits for an event.
        pending: the event that it has not fetched yet.
        error: the error that it reported.
    """

    name: str
    external: bool
    events: frozenset[str] | None = None
    waits: bool = False
    pending: deque[dict[str, Any]] = field(default_factory=deque)
    error: str | None = None
    identifier: str = field(default_factory=lambda: str(uuid.uuid4()))


class ExtensionsApi(RuntimeApi):
    """The Runtime API with extensions: an init or an invocation ends when all of them have asked for the next event.

    An extension that has not subscribed to INVOKE must ask once, during the init, and then waits.

    Args:
        function: name, version and handler, which registering extensions receive.
        external: the names of the external extensions. Other names belong to internal extensions.
        registration: ``open``; ``closed`` refuses every registration; ``managed`` does not support INVOKE, as on
            managed instances.
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
        """The external extensions, and the internal ones that have registered."""
        return list(self._extensions.values())

    def everyone_waits(self) -> bool:
        return super().everyone_waits() and all(each.waits for each in self.extensions)

    def everyone_registered(self) -> bool:
        """True if every external extension has registered, so that the runtime may start."""
        return all(each.events is not None for each in self.extensions)

    def announce_shutdown(self, reason: ShutdownReason, deadline_ms: int) -> set[str]:
        """Hand SHUTDOWN to the external extensions that subscribed to it, and return their names."""
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
            # An extension that was busy at the shutdown fetches the event here.
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
        # The report has no effect by itself: the extension is expected to exit.
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
    """The events that a registration subscribes to; None if it is malformed."""
    try:
        found = json.loads(body)
    except ValueError:
        return None
    events = found.get("events", []) if isinstance(found, dict) else None
    return events if isinstance(events, list) and all(isinstance(each, str) for each in events) else None


def _forbidden(kind: str, message: str) -> Response:
    return refusal(403, f"Extension.{kind}", message)
