"""Finds journals of processes that died before or alongside this one, and recovers them."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..contain import contain
from ..deadline import Deadline
from ..delivery.courier import Courier
from ..journal.directory import JOURNALS, StateDir
from ..journal.files import is_small
from ..journal.journal import FileJournal
from ..system.clock import monotonic
from ..system.threads import QuietThread
from .current_journal import CurrentJournal
from .forks import first_fork

if TYPE_CHECKING:
    from ..journal.orphans import Orphan, OrphanSearch

__all__ = ["Neighbours", "Search"]

Search = Callable[[StateDir, str], "OrphanSearch"]
"""Begins a search in a directory for journals of dead processes since a time, as in journal names; ``""`` means all."""

_RECOVERY_SECONDS = 0.5
# How often a working process looks for dead ones: workers may share a directory for days.
_LOOK_AROUND_SECONDS = 2.0
# Slow looks are made less often, so that they take at most this share of the time.
_LOOK_AROUND_SHARE = 0.05
# At exit a process recovers journals from its own lifetime, and spends at most this time on older ones.
_LAST_ROUNDS_SECONDS = 2.0
# Reading this many bytes takes a few milliseconds.
_QUICK_BYTES = 512 * 1024
_QUICK_JOURNALS = 32


class Neighbours:
    """The journals of other processes for the destination of a pipeline.

    Args:
        journal: the pipeline's own journal.
        courier: delivers recovered rows.
        search: begins a search for journals of dead processes.

    Attributes:
        unrecovered: True if some journals of dead processes are not recovered yet.
    """

    def __init__(self, journal: CurrentJournal, courier: Courier, search: Search) -> None:
        self.unrecovered = False
        self._journal = journal
        self._courier = courier
        self._new_search = search
        self._search: OrphanSearch | None = None
        self._recovering = threading.Lock()
        self._is_put_off = self._are_children_left = False
        self._look_around_at = monotonic() + _LOOK_AROUND_SECONDS
        self._looking: threading.Thread | None = None
        # In the format of journal names.
        self._began = str(time.time_ns() // 1_000_000)

    @property
    def _directory(self) -> StateDir | None:
        return self._journal.state_dir

    def start(self, *, quick: bool = False) -> None:
        """Close the open spans of dead processes. With ``quick``, only if that is fast, as it nearly always is."""
        with contain("recover what other processes left behind"):
            state_dir = self._directory
            if quick and state_dir is not None and not is_small(
                state_dir.directory / JOURNALS, most_bytes=_QUICK_BYTES, most_journals=_QUICK_JOURNALS
            ):
                self.unrecovered = self._is_put_off = True
            else:
                self.recover(Deadline.after(_RECOVERY_SECONDS))
                self.unrecovered = self._is_more

    def recover(self, deadline: Deadline) -> int:
        """Close the open spans in journals of dead processes, and give the journals to the courier.

        Returns the number of journals: at most as many as the courier may hold at a time. The next call continues
        where this one stopped.
        """
        state_dir, patience = self._directory, min(deadline.remaining, threading.TIMEOUT_MAX)
        if state_dir is None or not self._recovering.acquire(timeout=patience):
            return 0
        try:
            if self._search is None and os.listdir(state_dir.directory / JOURNALS):
                self._search = self._new_search(state_dir, "")
            return 0 if self._search is None else self._adopt(self._search.adopt, deadline)
        finally:
            self._recovering.release()

    def recover_rest(self, deadline: Deadline) -> None:
        """Recover and deliver the journals that would have delayed the start."""
        if self.unrecovered:
            self._is_put_off = False
            with contain("recover what other processes left behind"):
                self._recover_in_rounds(deadline)
            self.unrecovered = self._is_more

    def search_anew(self) -> None:
        """Restart the search, so that the next recovery begins with journals since the start of this process."""
        if self._directory is not None:
            self._search = self._new_search(self._directory, self._began)

    def readdress(self, destination: Mapping[str, Any]) -> None:
        """The destination is now known: release the journals that are for another one, and search again."""
        from ..journal.orphans import is_ours
        from ..journal.reader import read_header

        is_alone = self._recovering.acquire(timeout=_RECOVERY_SECONDS)
        try:
            self._search = None
            strangers = []
            for orphan in self._courier.orphans():
                with contain("read the header of a journal"):
                    if isinstance(orphan, FileJournal) and not is_ours(read_header(orphan.path), destination):
                        strangers.append(orphan)
            self._courier.let_go(strangers)
        finally:
            if is_alone:
                self._recovering.release()
        self.look_around_at_once()

    def look_around(self) -> None:
        """Recover journals of processes that died meanwhile, if the next look is due."""
        if monotonic() >= self._look_around_at and not self._is_put_off:
            self._look_around_at = monotonic() + _LOOK_AROUND_SECONDS
            self.look_around_at_once()

    def look_around_at_once(self) -> None:
        """Like :meth:`look_around`, but now. Uses a thread, as the caller must fire alarms or begin an invocation."""
        is_looking = self._looking is not None and self._looking.is_alive()
        if not is_looking and self._are_there():
            looking = QuietThread(target=self._look_around, name="trace-guard-recovery", daemon=True)
            with contain("look for what other processes left behind"):  # without a thread, later
                looking.start()
                self._looking = looking

    def wait_for_look(self, deadline: Deadline) -> None:
        """Wait for a running recovery. The process may end after a flush, so recovered rows must be delivered too."""
        looking = self._looking
        if looking is not None and looking is not threading.current_thread():
            looking.join(min(deadline.remaining, _RECOVERY_SECONDS))

    def last_look(self, deadline: Deadline) -> bool:
        """At exit: recover once more. Children of a pool skip their exit handlers and have ended by now.

        Returns whether there are any journals of other processes.
        """
        self.wait_for_look(deadline)
        if not self._are_there():
            return False
        self.search_anew()
        self._look_around()
        return True

    def last_rounds(self, deadline: Deadline) -> None:
        """Recover and deliver the journals that :meth:`last_look` did not reach."""
        if self._is_more:
            with contain("recover what other processes left behind"):
                self._recover_in_rounds(deadline, _LAST_ROUNDS_SECONDS)

    def adopt_children(self, deadline: Deadline) -> int:
        """Recover journals of processes that were forked by this one and have ended, as many as the courier may hold.

        Returns the number of journals. A process that has not forked does not look for any.
        """
        since, state_dir = first_fork(), self._directory
        self._are_children_left = False
        if since is None or state_dir is None or not self._are_there():
            return 0
        if not self._recovering.acquire(timeout=min(deadline.remaining, _RECOVERY_SECONDS)):
            return 0
        try:
            search = self._new_search(state_dir, since)
            found = self._adopt(search.adopt_recent, deadline.capped(_RECOVERY_SECONDS))
            self._are_children_left = bool(search.unreached)
            return found
        finally:
            self._recovering.release()

    def deliver_children(self, deadline: Deadline) -> bool:
        """Deliver the adopted journals, and then those for which there was no room. Returns False if some are left."""
        if first_fork() is None:
            return True
        while True:
            for orphan in self._courier.orphans():
                end = orphan.end
                if orphan.acked < end:
                    self._courier.deliver(orphan, end, deadline)
                    if orphan.acked < end:
                        return False
            if not self._are_children_left:
                return True
            self.adopt_children(deadline)
            if all(orphan.acked >= orphan.end for orphan in self._courier.orphans()):
                return not self._are_children_left  # what is left has attachments only, or can't be opened

    def after_fork(self) -> None:
        """In a forked child: the parent's threads do not exist here."""
        self._looking = None
        self._recovering = threading.Lock()
        self._search = None

    def _adopt(self, adopt: Callable[[int, Deadline], list[Orphan]], deadline: Deadline) -> int:
        from ..journal.orphans import MOST_ADOPTED

        courier = self._courier
        if len(courier.orphans()) >= MOST_ADOPTED:
            # Journals with only attachments left make room for others. They are found again after all had their turn.
            courier.let_go([orphan for orphan in courier.orphans() if orphan.acked >= orphan.end])
        found = adopt(MOST_ADOPTED - len(courier.orphans()), deadline)
        for one in found:
            courier.add(one.journal, first=one.closing, orphan=True)
        return len(found)

    @property
    def _is_more(self) -> bool:
        """True if a recovery is not finished."""
        return self._search is not None and bool(self._search.unreached)

    def _recover_in_rounds(self, deadline: Deadline, seconds_for_old: float = threading.TIMEOUT_MAX) -> None:
        """Recover and deliver until nothing is left.

        Args:
            seconds_for_old: the most seconds for journals older than this process.
        """
        patience = Deadline.after(seconds_for_old)
        while True:
            search = self._search
            until = deadline if search is not None and search.is_at_recent else min(deadline, patience)
            if not self.recover(until) or not self._courier.drain(until) or not self._is_more:
                return

    def _are_there(self) -> bool:
        """True if there are journals from which this process does not deliver."""
        if self._directory is None:
            return False
        ours = {one.path.name for one in self._courier.journals() if isinstance(one, FileJournal)}
        with contextlib.suppress(OSError):
            return any(not name.startswith(".") and name not in ours
                       for name in os.listdir(self._directory.directory / JOURNALS))
        return False

    def _look_around(self) -> None:
        began = monotonic()
        with contain("recover what a process beside this one left behind"):
            self.recover(Deadline.after(_RECOVERY_SECONDS))
        now = monotonic()
        pause = 0.0 if self._is_more else _LOOK_AROUND_SECONDS
        self._look_around_at = now + max(pause, (now - began) / _LOOK_AROUND_SHARE)
