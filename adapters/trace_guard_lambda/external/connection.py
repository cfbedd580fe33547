"""The extension's side of the socket to one runtime process: its messages, its journal and its death."""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path
from typing import Any

from trace_guard import Deadline
from trace_guard.journal.borrowed import BorrowedJournal
from trace_guard.journal.directory import prepare
from trace_guard.journal.format import Position
from trace_guard.journal.orphans import MOST_ADOPTED, Death, OrphanSearch
from trace_guard.runtime.pipeline import Pipeline

from .protocol import Lines, settings_from

__all__ = ["Connection"]

_CHUNK = 1 << 16
# A runtime that timed out ends within the grace period of SIGTERM, never before its deadline. This allows for clocks.
_CLOCK_SECONDS = 0.05
# A dying process closes its files one by one, so the lock of its journal may outlast the socket for this long.
_LOCK_SECONDS = 0.5


class Connection:
    """Reads a runtime's messages. Delivers from its journal while it lives, and takes the journal over when it dies.

    Attributes:
        holds_freeze: True if the extension must delay the freeze after each event.
        ended_at: when the socket ended, in seconds since the epoch; None while it is open.
        polls: how many events the runtime has asked for.
        events: how many events the extension has received since the runtime connected.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.holds_freeze = False
        self.ended_at: float | None = None
        self.polls = self.events = 0
        self._lines = Lines()
        self._pid = 0
        self._pipeline: Pipeline | None = None
        self._journals: set[Path] = set()
        self._live: _LiveJournal | None = None
        self._requested = Position(0, 0)
        self._in_invocation = False
        self._deadline: float | None = None

    @property
    def is_done(self) -> bool:
        """True if the extension need not delay the freeze for this runtime after the latest event."""
        return self.ended_at is not None or not self.holds_freeze or self.polls > self.events

    # Messages

    def read(self) -> None:
        """Handle the messages that have arrived.

        Raises:
            ValueError, TypeError, KeyError: a message does not follow the protocol.
            ImportError: a package for delivery is neither in the layer nor in the function.
        """
        try:
            data = self.socket.recv(_CHUNK, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.end()
            return
        for message in self._lines.feed(data):
            kind = message.get("kind")
            if kind == "hello":
                self._on_hello(message)
            elif kind == "begin":
                self._on_begin(message)
            elif kind == "end":
                self._on_end(message)

    def end(self) -> None:
        """Close the socket. Only the first call does anything."""
        if self.ended_at is None:
            self.ended_at = time.time()
            self.socket.close()

    def _on_hello(self, message: dict[str, Any]) -> None:
        self._pid, self.holds_freeze = int(message["pid"]), bool(message["holds_freeze"])
        # A layer without dependencies uses those of the function's own packages.
        sys.path += [entry for entry in message["path"] if entry not in sys.path]
        self._reset()
        self._pipeline = Pipeline(settings_from(message["settings"]))

    def _on_begin(self, message: dict[str, Any]) -> None:
        self._in_invocation, self._deadline = True, message["deadline"]
        self._add_journal(message["journal"])

    def _on_end(self, message: dict[str, Any]) -> None:
        self.polls += 1
        self._in_invocation = False
        self._add_journal(message["journal"])
        if message["deliver"] and self._pipeline is not None:
            path, position = Path(message["journal"]), Position(*message["position"])
            if self._live is None or self._live.path != path:
                self._reset()
                self._live = _LiveJournal(path)
                self._pipeline.courier.add(self._live)
            self._live.extend(position)
            self._requested = position

    def _add_journal(self, journal: str | None) -> None:
        if journal is not None:
            self._journals.add(Path(journal))

    # Delivery

    @property
    def has_request(self) -> bool:
        """True while a delivery that the runtime requested has not been made."""
        return self._live is not None and self._live.acked < self._requested and self.ended_at is None

    def thawed(self) -> None:
        """Record that the environment was frozen, so a request under way may never be answered."""
        if self._pipeline is not None:
            self._pipeline.courier.thawed()

    def deliver(self, deadline: Deadline | None) -> None:
        """Deliver what the runtime requested and wait until the deadline. Without a deadline, don't wait."""
        pipeline, live = self._pipeline, self._live
        if pipeline is None or live is None or not self.has_request:
            return
        upto, self._requested = self._requested, live.acked
        if deadline is None:
            pipeline.courier.send_soon()
        else:
            pipeline.courier.deliver(live, upto, deadline.capped(pipeline.settings.flush_timeout))

    def take_over(self, shutdown: str | None, deadline: Deadline) -> bool:
        """Close the spans that a dead runtime left open, and deliver all its rows.

        Args:
            shutdown: the service's reason for ending the environment; None if it has given none.

        Returns:
            False if the runtime still holds its journal, so that this must be tried again.
        """
        pipeline = self._pipeline
        if pipeline is None or self.ended_at is None:
            return True
        death = self._death(shutdown, self.ended_at) if self._in_invocation else None
        if self._live is not None:
            self._live.leave_to_orphans()
        settings, is_alive = pipeline.settings, _is_alive(self._pid)
        state_dir = prepare(settings.dir, settings.max_journal_bytes)
        # The runtime's own journals first, then one round of older ones. The next start adopts the rest.
        search = OrphanSearch(
            state_dir, settings.destination, since=min((path.name for path in self._journals), default=""),
            witness=lambda path: death if path in self._journals else None,
        )
        while True:
            for orphan in search.adopt(MOST_ADOPTED - len(pipeline.courier.orphans()), deadline):
                self._journals.discard(orphan.journal.path)
                pipeline.courier.add(orphan.journal, first=orphan.closing, orphan=True)
            drained = pipeline.courier.drain(deadline, force=True)
            if not drained or not search.is_at_recent or deadline.expired:
                break
        # A process that was gone before had no lock, so any of its journals that still exist have another owner by now.
        is_held = is_alive and any(path.exists() for path in self._journals)
        if is_held and time.time() < self.ended_at + _LOCK_SECONDS:
            return False
        self._reset()
        return True

    def _death(self, shutdown: str | None, at: float) -> Death:
        late = self._deadline is not None and at >= self._deadline - _CLOCK_SECONDS
        timed_out = late if shutdown is None else shutdown == "timeout"
        return Death(at, timed_out, {} if shutdown is None else {"shutdown": shutdown})

    def _reset(self) -> None:
        """Drop the pipeline's journal. Its owner delivers what is left in it."""
        if self._pipeline is not None and self._live is not None:
            self._pipeline.courier.close()
            self._pipeline = Pipeline(self._pipeline.settings)
        self._live, self._requested = None, Position(0, 0)


class _LiveJournal(BorrowedJournal):
    """The journal of a living runtime, whose messages say how far it reaches."""

    def extend(self, position: Position) -> None:
        self.end = max(self.end, position)

    def leave_to_orphans(self) -> None:
        """Stop reading after the owner's death. The adopted journal delivers the remaining rows."""
        self.end = self.acked


def _is_alive(pid: int) -> bool:
    """True while the process exists, even if it is ending or has closed its link."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
