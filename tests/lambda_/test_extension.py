"""The internal extension with lost events, answers or threads, or late events: no function is delayed and no
delivery is lost."""

from __future__ import annotations

import json
import queue
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from planted_keys import PLANTED_KEY
from support import A_WHILE, PROJECT_ID, pending_in, until

from trace_guard import Deadline
from trace_guard.testing import BraintrustServer, LambdaSandbox
from trace_guard.testing.extensions_api import Extension as Registered
from trace_guard.testing.extensions_api import ExtensionsApi
from trace_guard.testing.http_wire import Request, Response
from trace_guard.testing.loopback import LoopbackServer
from trace_guard.testing.snapstart_api import SnapStartApi
from trace_guard_lambda.after_response import AfterResponse
from trace_guard_lambda.extension import Extension

CODE = Path(__file__).parents[1] / "functions" / "extension_troubles"
INTERNAL, NEXT = ["delivered", "internal-extension"], ["delivered", "before-next-event"]


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer() as server:
        server.add_project("project", PROJECT_ID)
        yield server


def sandbox(server: BraintrustServer, api: type[ExtensionsApi] = SnapStartApi, **env: str) -> LambdaSandbox:
    class Sandbox(LambdaSandbox):
        api_class: ClassVar[type[ExtensionsApi]] = api
        init_timeout = 4.0

    environment = {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
        "TRACE_GUARD_PROJECT_ID": PROJECT_ID, **env,
    }
    return Sandbox("app.handler", code=CODE, env=environment, timeout=10)


def ways(server: BraintrustServer, function: LambdaSandbox, times: int) -> list[Any]:
    """How each invocation but the last was delivered. Each is delivered before the freeze."""
    told = []
    for number in range(times):
        result = function.invoke({})
        assert (result.status, result.billed_seconds < 1) == ("ok", True), function.log
        assert (len(server.span_rows()), server.open_spans()) == (number + 1, [])
        assert pending_in(function.trace_guard_dir) == []
        told.append(result.payload)
    return told[1:]


# Threads


@pytest.mark.parametrize("trouble", ["greenlets", "no thread"])
def test_no_extension_without_a_thread(server: BraintrustServer, trouble: str) -> None:
    """Nothing registers where threads are greenlets or can't be started, because the init would wait for it in vain."""
    with sandbox(server, TROUBLE=trouble) as function:
        assert ways(server, function, 3) == [NEXT] * 2


# Events


class _LosesAnEvent(SnapStartApi):
    """Closes the connection instead of sending the second event."""

    told = 0

    def next_extension_event(self, request: Request) -> Response | None:
        answer = super().next_extension_event(request)
        self.told += 1
        return None if self.told == 2 else answer


@pytest.mark.parametrize("trouble", ["none", "exits"])
def test_the_extension_works_again_after_a_lost_event(server: BraintrustServer, trouble: str) -> None:
    """The runtime delivers for an event that the extension does not receive, and the extension delivers again for
    the next events, even if a log handler raises SystemExit."""
    with sandbox(server, _LosesAnEvent, TROUBLE=trouble) as function:
        assert ways(server, function, 6) == [INTERNAL, NEXT, INTERNAL, INTERNAL, INTERNAL]


# Registration


class _LosesTheAnswer(SnapStartApi):
    """Closes the connection instead of answering the first registration, which it may have accepted."""

    accepts: ClassVar[bool]
    asked = 0

    def register(self, request: Request) -> Response | None:  # type: ignore[override]
        self.asked += 1
        if self.asked > 1:
            return super().register(request)
        if self.accepts:
            super().register(request)
        return None


class _NotAccepted(_LosesTheAnswer):
    accepts = False


class _Accepted(_LosesTheAnswer):
    accepts = True


class _Slow(SnapStartApi):
    def _why_not(self, extension: Registered, events: Any) -> Response | None:
        self.closing.wait(1.2)
        return super()._why_not(extension, events)


@pytest.mark.parametrize("api", [_NotAccepted, _Slow])
def test_a_registration_is_retried_and_may_be_slow(server: BraintrustServer, api: type[ExtensionsApi]) -> None:
    """A registration is retried after a broken connection, and a slow answer is waited for."""
    with sandbox(server, api) as function:
        assert ways(server, function, 2) == [INTERNAL]


def test_a_lost_registration_is_logged(server: BraintrustServer) -> None:
    """If the answer to an accepted registration is lost, the log explains why the init does not end."""
    with sandbox(server, _Accepted) as function:
        assert function.invoke({}).status != "ok"
        assert "registration as an extension was lost" in function.log


# Unit tests, with a service that sends events on request


class Service(LoopbackServer):
    """Sends the events that it is given to an extension."""

    def __init__(self) -> None:
        self.asked = 0
        self._events: queue.Queue[bytes | None] = queue.Queue()
        super().__init__()

    def respond(self, request: Request) -> Response | None:
        self.asked += 1
        event = self._events.get()
        return None if event is None else Response(200, event)

    def release_waiting(self) -> None:
        self._events.put(None)

    def tells(self, event: bytes) -> None:
        self._events.put(event)


def invoke(request_id: str, seconds: float) -> bytes:
    """The event of an invocation with this many seconds."""
    event = {"eventType": "INVOKE", "requestId": request_id, "deadlineMs": (time.time() + seconds) * 1000}
    return json.dumps(event).encode()


class Runtime:
    """The runtime's part. Records the deliveries and their ways."""

    def __init__(self, service: Service, kind: type[Extension] = Extension) -> None:
        self.service = service
        self.done: list[tuple[str, str]] = []
        self.after = AfterResponse()
        self.invocation: Any = types.SimpleNamespace(state=types.SimpleNamespace(pipeline=None))
        self.after._is_listening = True
        self.extension = self.after._extension = kind(service.address, self.after._run_deliveries)
        self.extension.begin("identifier")
        self.after.before_next()

    def ends(self) -> None:
        self.extension.end()
        self.service.tells(b'{"eventType": "SHUTDOWN"}')
        self.extension._thread.join(A_WHILE)

    def handles(self, request_id: str) -> None:
        """Receive an event and respond to it."""
        self.after.event_came(request_id)
        self.after._deadline = Deadline.after(2.0)
        assert self.after.schedule(
            self.invocation, lambda deadline, way: self.done.append((request_id, way))
        ) is not None


MakeRuntime = Callable[..., Runtime]


@pytest.fixture
def service() -> Iterator[Service]:
    service = Service()
    yield service
    service.close()


@pytest.fixture
def make_runtime(service: Service) -> Iterator[MakeRuntime]:
    made: list[Runtime] = []

    def make(kind: type[Extension] = Extension) -> Runtime:
        made.append(Runtime(service, kind))
        return made[-1]

    yield make
    for runtime in made:
        runtime.ends()


def test_the_runtime_may_be_quicker(service: Service, make_runtime: MakeRuntime) -> None:
    """The extension delivers even if the runtime finishes an event before the extension has received it."""
    runtime = make_runtime()
    for number in range(20):
        runtime.handles(f"event {number}")
        service.tells(invoke(f"event {number}", 3.0))
        runtime.after.before_next()
        until(lambda number=number: len(runtime.done) == number + 1)  # type: ignore[misc]
    assert runtime.done == [(f"event {number}", "internal-extension") for number in range(20)]


def test_a_late_event_does_not_delay_the_freeze(service: Service, make_runtime: MakeRuntime) -> None:
    """An event that the extension receives after the runtime has delivered does not delay the freeze."""
    runtime = make_runtime()
    until(lambda: service.asked == 1)
    runtime.handles("first")
    runtime.after.before_next()
    assert runtime.done == [("first", "before-next-event")]
    service.tells(invoke("first", 60.0))
    until(lambda: service.asked == 2, what="the next question")
    # The next event is handled normally.
    service.tells(invoke("second", 60.0))
    runtime.handles("second")
    runtime.after.before_next()
    until(lambda: service.asked == 3)
    assert runtime.done[1:] == [("second", "internal-extension")]


def test_a_delivery_is_never_lost_between_the_two(service: Service, make_runtime: MakeRuntime) -> None:
    """If the extension gives up at the moment the runtime asks for its next event, one of them delivers."""

    class Late(Extension):
        """Waits until the extension has given up before it reports the runtime's poll, from the first event on."""

        def runtime_polls(self) -> bool:
            if runtime_has_event.is_set():
                until(lambda: service.asked == 2)
            return super().runtime_polls()

    runtime_has_event = threading.Event()
    runtime = make_runtime(Late)
    runtime_has_event.set()
    until(lambda: service.asked == 1)
    service.tells(invoke("first", 0.5))
    runtime.handles("first")
    assert runtime.extension.will_deliver
    runtime.after.before_next()
    assert runtime.done == [("first", "before-next-event")]
