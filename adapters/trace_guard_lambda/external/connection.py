"""One runtime as the extension sees it: what it said, what is to be delivered for it, and how it died."""

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
# A runtime that was killed for its time ends within the grace that comes with SIGTERM, never before its deadline.
_CLOCK_SECONDS = 0.05
# A process closes its files one after another as it ends; the lock of the journal may go after the socket.
_LETTING_GO_SECONDS = 0.5


class Connection:
    """Reads what a runtime says. Delivers from its journal while it lives, and takes that over when it is dead.

    Attributes:
        gates: whether the freeze is to be held back after each event.
        ended_at: when the end of the socket was seen, in seconds since the epoch; None while it is open.
        polls: how many events the runtime has asked for.
        events: how many events the extension was told of since this began.
    """

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.gates = False
        self.ended_at: float | None = None
        self.polls = self.events = 0
        self._lines = Lines()
        self._pid = 0
        self._pipeline: Pipeline | None = None
        self._journals: set[Path] = set()
        self._live: _LiveJournal | None = None
        self._asked = Position(0, 0)
        self._at_work = False
        self._deadline: float | None = None

    @property
    def over(self) -> bool:
        """True if the event that the extension was told of last is done with, as far as this runtime goes."""
        return self.ended_at is not None or not self.gates or self.polls > self.events

    # What it says

    def read(self) -> None:
        """Take in what has arrived.

        Raises:
            ValueError, TypeError, KeyError: it is not what a runtime says.
            ImportError: what delivery needs is neither in the layer nor with the function.
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
                self._greeted(message)
            elif kind == "begin":
                self._began(message)
            elif kind == "end":
                self._ended(message)

    def end(self) -> None:
        """Take it as ended. Only the first call does anything."""
        if self.ended_at is None:
            self.ended_at = time.time()
            self.socket.close()

    def _greeted(self, message: dict[str, Any]) -> None:
        self._pid, self.gates = int(message["pid"]), bool(message["gates"])
        # A layer without dependencies leaves them to the function's own packages.
        sys.path += [entry for entry in message["path"] if entry not in sys.path]
        self._forget()
        self._pipeline = Pipeline(settings_from(message["settings"]))

    def _began(self, message: dict[str, Any]) -> None:
        self._at_work, self._deadline = True, message["deadline"]
        self._note(message["journal"])

    def _ended(self, message: dict[str, Any]) -> None:
        self.polls += 1
        self._at_work = False
        self._note(message["journal"])
        if message["deliver"] and self._pipeline is not None:
            path, position = Path(message["journal"]), Position(*message["position"])
            if self._live is None or self._live.path != path:
                self._forget()
                self._live = _LiveJournal(path)
                self._pipeline.courier.add(self._live)
            self._live.extend(position)
            self._asked = position

    def _note(self, journal: str | None) -> None:
        if journal is not None:
            self._journals.add(Path(journal))

    # What is done for it

    @property
    def asks(self) -> bool:
        """True while there is something to deliver for it."""
        return self._live is not None and self._live.acked < self._asked and self.ended_at is None

    def thawed(self) -> None:
        """The environment was frozen: a request that was under way may never be answered."""
        if self._pipeline is not None:
            self._pipeline.courier.thawed()

    def deliver(self, deadline: Deadline | None) -> None:
        """Deliver what it has asked for, and wait for that until a deadline; without one, don't wait."""
        pipeline, live = self._pipeline, self._live
        if pipeline is None or live is None or not self.asks:
            return
        upto, self._asked = self._asked, live.acked
        if deadline is None:
            pipeline.courier.send_soon()
        else:
            pipeline.courier.deliver(live, upto, deadline.capped(pipeline.settings.flush_timeout))

    def take_over(self, shutdown: str | None, deadline: Deadline) -> bool:
        """Close what it has left open, and deliver all.

        Args:
            shutdown: why the environment ends, as the service says it, if it has.

        Returns:
            False if it still holds its journal, and should be looked at again.
        """
        pipeline = self._pipeline
        if pipeline is None or self.ended_at is None:
            return True
        death = self._death(shutdown, self.ended_at) if self._at_work else None
        if self._live is not None:
            self._live.leave_to_orphans()
        settings, goes_on = pipeline.settings, _is_there(self._pid)
        state_dir = prepare(settings.dir, settings.max_journal_bytes)
        # Its own journals first. What older ones have left is for the next start, but for a round of it.
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
        # If it was gone before, its lock was free, and a journal that is still there is another's by now.
        held = goes_on and any(path.exists() for path in self._journals)
        if held and time.time() < self.ended_at + _LETTING_GO_SECONDS:
            return False
        self._forget()
        return True

    def _death(self, shutdown: str | None, at: float) -> Death:
        late = self._deadline is not None and at >= self._deadline - _CLOCK_SECONDS
        timed_out = late if shutdown is None else shutdown == "timeout"
        return Death(at, timed_out, {} if shutdown is None else {"shutdown": shutdown})

    def _forget(self) -> None:
        """Begin anew with another journal or destination; what was not delivered is left to the journal's owner."""
        if self._pipeline is not None and self._live is not None:
            self._pipeline.courier.close()
            self._pipeline = Pipeline(self._pipeline.settings)
        self._live, self._asked = None, Position(0, 0)


class _LiveJournal(BorrowedJournal):
    """A living runtime's journal, of which it tells how far it has come."""

    def extend(self, position: Position) -> None:
        self.end = max(self.end, position)

    def leave_to_orphans(self) -> None:
        """Its owner has died: what is not delivered yet is the adopted journal's."""
        self.end = self.acked


def _is_there(pid: int) -> bool:
    """True while a process runs, or comes to its end, or only its link has ended."""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
