"""The extension's loop: it waits for events of the service and messages of runtimes, delivers, and takes over journals.

The loop runs on one thread. Only the courier has threads of its own. Three rules keep faults of ours from affecting the
function:

- While the extension delays the freeze, it asks for the next event as soon as the runtime and the delivery are done,
  the runtime's link has ended, or the time is up.
- The extension never delays the freeze for a runtime whose internal extension does so already.
- The service's reason for ending the environment shows how a runtime died. The service sends it at once as the next
  event, so the extension waits for it only for a moment.
"""

from __future__ import annotations

import _socket
import os
import selectors
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from trace_guard import Deadline
from trace_guard.contain import contain, warn_once

from .connection import Connection

__all__ = ["Process"]

# An extension that still works when the function times out bills the whole timeout and resets the environment.
_MARGIN_SECONDS = 0.3
# Seconds kept back before the deadline of a SHUTDOWN, when the service sends SIGKILL.
_LAST_SECONDS = 0.1
# The whole shutdown may take 2 s, of which the runtime may use 0.5 s.
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
_TAKE_OVER_SECONDS = 1.3
_REASON_SECONDS = 0.1
_AGAIN_SECONDS = 0.01


class Events(Protocol):
    """The service's events, as :class:`.program.ExtensionsApi` provides them."""

    connection: Any
    receives_invocations: bool

    def ask(self) -> None: ...

    def receive(self) -> dict[str, Any] | None: ...


class Process:
    """Runs until the environment ends.

    Args:
        api: registered, with the request for its first event under way.
        listener: where runtimes connect.
        user_at_other_end: returns the id of the user who has connected.
    """

    def __init__(
        self, api: Events, listener: _socket.socket, user_at_other_end: Callable[[_socket.socket], int]
    ) -> None:
        self._api = api
        self._user_at_other_end = user_at_other_end
        self._listener = socket.socket(fileno=listener.detach())
        self._listener.setblocking(False)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._connections: list[Connection] = []
        self._ended: list[Connection] = []
        self._event: Deadline | None = None  # the deadline of the current event
        self._shutdown: tuple[str, Deadline] | None = None

    def run(self) -> None:
        """Run until a SHUTDOWN has been handled."""
        while self._shutdown is None:
            self._wait()
            with contain("deliver as an extension"):
                self._deliver()
            if self._event is not None and (self._event.expired or all(each.is_done for each in self._connections)):
                self._event = None
                self._api.ask()
            self._take_over()
        self._finish(*self._shutdown)

    # Events and messages

    def _wait(self) -> None:
        """Wait until an event or message has arrived or work is due."""
        timeout: float | None = _AGAIN_SECONDS if self._ended else None
        if self._event is not None:
            timeout = min(self._event.remaining, timeout or self._event.remaining)
        events = self._api.connection
        if events is None:
            self._read_messages(timeout)
            return
        self._selector.register(events, selectors.EVENT_READ)
        try:
            has_event = self._read_messages(timeout)
        finally:
            self._selector.unregister(events)
        if has_event:
            event = self._api.receive()
            # Messages that were sent before the event arrived are handled before it.
            while self._read_messages(0.0, messages_only=True):
                continue
            self._handle(event)

    def _read_messages(self, timeout: float | None, messages_only: bool = False) -> bool:
        """Handle messages of runtimes. Returns True if an event has arrived, or with ``messages_only`` a message."""
        ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        if self._listener in ready:
            with contain("let a runtime connect"):
                self._accept()
        for connection in [each for each in self._connections if each.socket in ready]:
            self._read(connection)
        return bool(ready) if messages_only else self._api.connection in ready

    def _accept(self) -> None:
        connected, _ = self._listener.accept()
        user = self._user_at_other_end(connected)
        if user != os.geteuid():
            connected.close()
            warn_once("another user's runtime", "the extension does not listen to user %d", user)
            return
        self._connections.append(Connection(connected))
        self._selector.register(connected, selectors.EVENT_READ)

    def _read(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        with contain("understand a runtime"):
            connection.read()
            if connection.ended_at is None:
                return
        # It has ended or violates the protocol.
        self._selector.unregister(number)
        connection.end()
        self._connections.remove(connection)
        self._ended.append(connection)

    def _handle(self, event: dict[str, Any] | None) -> None:
        if event is None:
            self._api.ask()
            return
        until = event.get("deadlineMs")
        left = until / 1000 - time.time() if isinstance(until, (int, float)) else 0.0
        if event.get("eventType") == "SHUTDOWN":
            # The documentation has the reason in lower case, AWS's emulator in upper case.
            self._shutdown = str(event.get("shutdownReason")).lower(), Deadline.after(left - _LAST_SECONDS)
            return
        for connection in self._connections:
            connection.events += 1
            connection.thawed()
        self._event = Deadline.after(left - _MARGIN_SECONDS)

    # Delivery

    def _deliver(self) -> None:
        if self._event is None and self._api.receives_invocations:
            return  # wait for the event, which has the deadline: a quick runtime may finish before it arrives here
        for connection in self._connections:
            if connection.has_request:
                # An extension without INVOKE events has no deadline: nothing is frozen, so it need not wait.
                connection.deliver(self._event)

    def _take_over(self) -> None:
        """Take over from dead runtimes for which the service has not given a reason in time."""
        for connection in list(self._ended):
            ended_at = connection.ended_at or 0.0
            if time.time() >= ended_at + _REASON_SECONDS:
                self._take_over_from(connection, None, Deadline.after(ended_at + _TAKE_OVER_SECONDS - time.time()))

    def _take_over_from(self, connection: Connection, reason: str | None, deadline: Deadline) -> None:
        done = True
        with contain("take over from a runtime that has died"):
            done = connection.take_over(reason, deadline)
        if done:
            self._ended.remove(connection)

    def _finish(self, reason: str, deadline: Deadline) -> None:
        self._read_messages(0.0)
        for connection in self._connections:
            with contain("deliver at the end"):
                # Keep half of the time for taking over, as the runtime may still die.
                connection.deliver(deadline.capped(deadline.remaining / 2))
        while (self._connections or self._ended) and not deadline.expired:
            for connection in list(self._ended):
                self._take_over_from(connection, reason, deadline)
            if self._connections or self._ended:
                self._read_messages(min(_AGAIN_SECONDS, deadline.remaining) if self._ended else deadline.remaining)
