"""``trace-guard recover``: closes and delivers everything possible in a directory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contain import contain
from ..deadline import Deadline, Seconds
from ..delivery.dead_letters import DeadLetters
from ..errors import JournalError
from ..journal.borrowed import BorrowedJournal
from ..journal.directory import JOURNALS, StateDir, prepare
from ..journal.format import Kind
from ..journal.journal import FileJournal
from ..journal.orphans import MOST_ADOPTED, OrphanSearch, is_ours, names_of_journals
from ..journal.reader import read_acked, read_entries, read_header
from ..settings import Settings

if TYPE_CHECKING:
    from ..delivery.courier import Courier

__all__ = ["Recovery", "recover"]

# How long attachments may hold up the rows of other journals. They are tried again when all rows are delivered.
_ATTACHMENTS_SECONDS = 2.0


@dataclass(frozen=True)
class Recovery:
    """The result of a recovery.

    Attributes:
        journals: how many orphaned journals of this destination were closed.
        closed_spans: how many spans were open in them.
        delivered_rows: how many rows were delivered.
        pending_rows: how many are left, because the backend did not take them or the time was up.
        error: why something is left; None if nothing is.
    """

    journals: int
    closed_spans: int
    delivered_rows: int
    pending_rows: int
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields by name, as ``trace-guard recover --json`` prints them."""
        return asdict(self)


def recover(settings: Settings | None = None, *, timeout: Seconds = 30.0) -> Recovery:
    """Close and deliver the journals that processes left in a directory.

    Orphaned journals are closed, delivered and removed, a bounded number at a time. Rows that a live process
    could not deliver are delivered for it, unless it is delivering them itself. Several recoveries can run at once
    without conflict. A recovery that was interrupted can be repeated. Only journals for the destination of the
    settings are touched.

    Args:
        settings: by default the environment's settings.
        timeout: most seconds to wait for the backend.

    Raises:
        SettingsError: a variable has a value that is not accepted.
        JournalUnavailable: the directory can't be used.
    """
    from ..backends.make import make_backend
    from ..backends.project_ids import ProjectIds
    from ..delivery.courier import Courier

    settings = settings or Settings.from_env()
    deadline = Deadline.after(timeout)
    state_dir = prepare(settings.dir, settings.max_journal_bytes)
    letters = DeadLetters(state_dir.directory, state_dir.byte_limit // 8, lambda: settings.destination)
    courier = Courier(make_backend(settings, ProjectIds()), letters)
    try:
        return _Rounds(courier, state_dir, settings.destination, deadline).run()
    finally:
        courier.close()


class _Rounds:
    """One recovery: it has no more than a bounded number of journals open at any time.

    Each round takes over some journals, delivers from them, and releases them. A journal with its own fault, such as
    an attachment that can't be uploaded, is tried once more at the end and delays no other.
    """

    def __init__(
        self, courier: Courier, state_dir: StateDir, destination: Mapping[str, Any], deadline: Deadline
    ) -> None:
        self._courier = courier
        self._state_dir = state_dir
        self._destination = destination
        self._deadline = deadline
        self._journals = self._closed = self._delivered = 0
        # The number of undelivered rows in each journal that was released.
        self._left: dict[str, int] = {}
        # Delivered journals that stay, because the ends of their spans don't fit on a full disk.
        self._staying: set[str] = set()
        self._is_stopped = False

    def run(self) -> Recovery:
        unreached = self._orphans(names_of_journals(self._state_dir))
        self._orphans(list(self._left), again=True)
        known = {*unreached, *self._left, *self._staying}
        others = self._borrowed([name for name in names_of_journals(self._state_dir) if name not in known])
        return self._result(unreached, others)

    def _orphans(self, names: list[str], *, again: bool = False) -> Sequence[str]:
        """Recover the journals of dead processes among these. Returns the names that were not reached."""
        search = OrphanSearch(self._state_dir, self._destination, names=names)
        while search.unreached and not self._is_over:
            found = search.adopt(MOST_ADOPTED, self._deadline)
            if not again:
                self._journals += len(found)
                self._closed += sum(len(orphan.closing) for orphan in found)
            before = sum(_pending(orphan.journal) for orphan in found)
            for orphan in found:
                self._courier.add(orphan.journal, first=orphan.closing, orphan=True)
            is_last = again or not (search.unreached or self._left)
            self._deliver([orphan.journal for orphan in found], before, is_last=is_last)
            if not found:
                break  # what is left can't be opened
        return search.unreached

    def _borrowed(self, names: list[str]) -> Sequence[str]:
        """Deliver rows that live processes could not. Returns the names of journals that were not reached."""
        while names and not self._is_over:
            found: list[BorrowedJournal] = []
            while names and len(found) < MOST_ADOPTED and not self._deadline.expired:
                journal = _borrowed(self._state_dir.directory / JOURNALS / names.pop(), self._destination)
                if journal is not None:
                    found.append(journal)
            before = sum(map(_pending, found))
            for journal in found:
                self._courier.add(journal)
            self._deliver(found, before, is_last=not names)
        return names

    def _deliver(self, journals: Sequence[FileJournal | BorrowedJournal], before: int, *, is_last: bool) -> None:
        if journals:
            patience = None if is_last else Deadline.after(_ATTACHMENTS_SECONDS)
            self._courier.drain(self._deadline, force=True, attachments=patience)
        pending = 0
        for journal in journals:
            left = _pending(journal)
            pending += left
            if left or (journal.attachments is not None and journal.attachments.waiting):
                self._left[journal.path.name] = left
            else:
                self._left.pop(journal.path.name, None)
                if journal.path.exists():
                    self._staying.add(journal.path.name)
        self._delivered += before - pending
        self._courier.let_go(journals)
        # A delivery by another process, or a request in flight, says nothing about the backend.
        self._is_stopped = bool(pending) and self._courier.last_error is not None

    @property
    def _is_over(self) -> bool:
        return self._is_stopped or self._deadline.expired

    def _result(self, unreached: Sequence[str], others: Sequence[str]) -> Recovery:
        waiting = [self._waiting_in(name) for name in unreached]
        left = [rows for rows in waiting if rows is not None]
        pending = sum(self._left.values()) + sum(left) + sum(self._waiting_in(name) or 0 for name in others)
        error = None
        if pending or left:
            error = self._courier.last_error or (
                "the time was up" if self._deadline.expired
                else "the rest is being delivered by a process that still runs"
            )
        if left:
            error = f"{error}; {len(left)} more journals were not reached"
        return Recovery(self._journals, self._closed, self._delivered, pending, error)

    def _waiting_in(self, name: str) -> int | None:
        """How many rows of a journal are not delivered; None if it is for another destination, or is gone."""
        path = self._state_dir.directory / JOURNALS / name
        try:
            if not is_ours(read_header(path), self._destination):
                return None
            return sum(entry.kind == Kind.ROW for entry in read_entries(path, read_acked(path)))
        except (JournalError, OSError):
            return None


def _borrowed(path: Path, destination: Mapping[str, Any]) -> BorrowedJournal | None:
    """The journal of a living process, if it has something for this destination that is not delivered."""
    if path.name.startswith("."):
        return None
    with contain(f"read the journal {path.name}"):
        try:
            if not is_ours(read_header(path), destination):
                return None
            journal = BorrowedJournal(path)
        except (JournalError, FileNotFoundError):
            return None
        waits = journal.attachments is not None and not journal.attachments.empty
        if waits or journal.acked < journal.end:
            return journal
    return None


def _pending(journal: FileJournal | BorrowedJournal) -> int:
    return sum(1 for entry in journal.read(journal.acked) if entry.kind == Kind.ROW)
