"""The extension's loop: events of the service, words of the runtimes, and what is to be done at which time.

One thread does it all, in turns; only the courier's threads are beside it. Its rules, of which each keeps the
function from paying for a fault of ours:

- While it holds back the freeze, it asks for the next event as soon as the runtime is done and delivery is over, or
  the runtime's link has ended, or the time is up, whichever is first.
- A runtime that does not want the freeze held back, as its internal extension does that, never waits for it.
- What the end of a link means is known once the service says why the environment ends, which it says at once; so
  it is asked for the next event, and not waited for longer than a moment.
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

# An extension that is still at it when the function's time is up bills the whole timeout, and resets the environment.
_MARGIN_SECONDS = 0.3
# Before the end that a SHUTDOWN names, when SIGKILL comes.
_LAST_SECONDS = 0.1
# The service gives everything 2 s from when it begins to end the environment, of which the runtime may have had 0.5.
# https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
_TAKE_OVER_SECONDS = 1.3
_REASON_SECONDS = 0.1
_AGAIN_SECONDS = 0.01


class Events(Protocol):
    """The service's events, as :class:`.program.ExtensionsApi` has them."""

    connection: Any
    told_of_invocations: bool

    def ask(self) -> None: ...

    def take(self) -> dict[str, Any] | None: ...


class Process:
    """Runs until the environment ends.

    Args:
        api: registered, and asked for its first event.
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
        self._event: Deadline | None = None  # of the event that is under way
        self._shutdown: tuple[str, Deadline] | None = None

    def run(self) -> None:
        """Serve until a SHUTDOWN, and what is to be done at it, is over."""
        while self._shutdown is None:
            self._wait()
            with contain("deliver as an extension"):
                self._deliver()
            if self._event is not None and (self._event.expired or all(each.over for each in self._connections)):
                self._event = None
                self._api.ask()
            self._take_over()
        self._finish(*self._shutdown)

    # Events and words

    def _wait(self) -> None:
        """Wait until something has happened or is due."""
        timeout: float | None = _AGAIN_SECONDS if self._ended else None
        if self._event is not None:
            timeout = min(self._event.remaining, timeout or self._event.remaining)
        events = self._api.connection
        if events is None:
            self._hear(timeout)
            return
        self._selector.register(events, selectors.EVENT_READ)
        try:
            has_come = self._hear(timeout)
        finally:
            self._selector.unregister(events)
        if has_come:
            event = self._api.take()
            # What a runtime said before the event came counts before it.
            while self._hear(0.0, only_said=True):
                continue
            self._take_event(event)

    def _hear(self, timeout: float | None, only_said: bool = False) -> bool:
        """Take in what runtimes have said; True if an event has come, or with ``only_said`` if anything was."""
        ready = [key.fileobj for key, _ in self._selector.select(timeout)]
        if self._listener in ready:
            with contain("let a runtime connect"):
                self._accept()
        for connection in [each for each in self._connections if each.socket in ready]:
            self._read(connection)
        return bool(ready) if only_said else self._api.connection in ready

    def _accept(self) -> None:
        connected, _ = self._listener.accept()
        user = self._user_at_other_end(connected)
        if user != os.geteuid():
            connected.close()
            warn_once("another user's runtime", "trace-guard's extension does not listen to user %d", user)
            return
        self._connections.append(Connection(connected))
        self._selector.register(connected, selectors.EVENT_READ)

    def _read(self, connection: Connection) -> None:
        number = connection.socket.fileno()
        with contain("understand a runtime"):
            connection.read()
            if connection.ended_at is None:
                return
        # It has ended, or says what can't be understood.
        self._selector.unregister(number)
        connection.end()
        self._connections.remove(connection)
        self._ended.append(connection)

    def _take_event(self, event: dict[str, Any] | None) -> None:
        if event is None:
            self._api.ask()
            return
        until = event.get("deadlineMs")
        left = until / 1000 - time.time() if isinstance(until, (int, float)) else 0.0
        if event.get("eventType") == "SHUTDOWN":
            # The documentation has it in small letters, AWS's emulator has not.
            self._shutdown = str(event.get("shutdownReason")).lower(), Deadline.after(left - _LAST_SECONDS)
            return
        for connection in self._connections:
            connection.events += 1
            connection.thawed()
        self._event = Deadline.after(left - _MARGIN_SECONDS)

    # What is to be done

    def _deliver(self) -> None:
        if self._event is None and self._api.told_of_invocations:
            return  # a quick runtime is done before its event has come here, which says how long there is
        for connection in self._connections:
            if connection.asks:
                # Without events nothing is frozen, and nobody waits.
                connection.deliver(self._event)

    def _take_over(self) -> None:
        """See to those that have ended, once it is known why, or has not been said in time."""
        for connection in list(self._ended):
            ended_at = connection.ended_at or 0.0
            if time.time() >= ended_at + _REASON_SECONDS:
                self._see_to(connection, None, Deadline.after(ended_at + _TAKE_OVER_SECONDS - time.time()))

    def _see_to(self, connection: Connection, reason: str | None, deadline: Deadline) -> None:
        done = True
        with contain("take over from a runtime that has died"):
            done = connection.take_over(reason, deadline)
        if done:
            self._ended.remove(connection)

    def _finish(self, reason: str, deadline: Deadline) -> None:
        self._hear(0.0)
        for connection in self._connections:
            with contain("deliver at the end"):
                # Half of the time, as the end of its link may be still to come, and with it more to do.
                connection.deliver(deadline.capped(deadline.remaining / 2))
        while (self._connections or self._ended) and not deadline.expired:
            for connection in list(self._ended):
                self._see_to(connection, reason, deadline)
            if self._connections or self._ended:
                self._hear(min(_AGAIN_SECONDS, deadline.remaining) if self._ended else deadline.remaining)
