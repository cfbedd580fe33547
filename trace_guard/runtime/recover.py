"""What dead processes left behind: found, closed at the last moment they are known to have lived, delivered.

A journal is an *orphan* if its lock can be taken, which is only so when its writer is gone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..contain import contain, logger
from ..deadline import Deadline
from ..delivery.dead_letters import DeadLetters
from ..errors import JournalError
from ..journal.directory import JOURNALS, StateDir, prepare
from ..journal.format import Kind
from ..journal.journal import FileJournal, NewRow
from ..journal.open_spans import OpenSpan, OpenSpans
from ..journal.reader import read_header
from ..outcome import ClosedBy, Outcome
from ..rows import Row, closing_row
from ..settings import Settings

if TYPE_CHECKING:
    from ..journal.borrowed import BorrowedJournal

__all__ = ["Death", "Orphan", "Recovery", "Witness", "close_orphans", "is_ours", "recover"]

# How old a journal must be that has no name yet, or no longer: its maker or remover died in that millisecond.
_UNFINISHED_SECONDS = 60.0
_PROCESS_ENDED = "process_ended"


class Death(NamedTuple):
    """How a process ended that was at work, as told by somebody who saw it.

    Attributes:
        at: when, in seconds since the epoch.
        timed_out: whether the platform ended it because its time was up.
        notes: more facts for ``metadata.trace_guard`` of the spans that it left open.
        outcome: of those spans; by default it is told from their deadline.
        closed_by: who has seen it, and closes them.
        reason: why they are closed, in one word.
        error: of the roots among them, in words.
    """

    at: float
    timed_out: bool
    notes: Mapping[str, Any]
    outcome: Outcome | None = None
    closed_by: ClosedBy = ClosedBy.RECOVERY
    reason: str = _PROCESS_ENDED
    error: str | None = None


Witness = Callable[[Path], "Death | None"]
"""What is known of the death of the process whose journal this was; None if there is nothing but the journal."""


class Orphan(NamedTuple):
    """A dead process's journal, which is now ours, and the rows that closed its open spans."""

    journal: FileJournal
    closing: list[Row]


@dataclass(frozen=True)
class Recovery:
    """What a recovery has done.

    Attributes:
        journals: how many orphaned journals were found for this destination.
        closed_spans: how many spans were open in them.
        delivered_rows: how many rows were delivered.
        pending_rows: how many are left, because the backend did not take them.
        error: why, or None.
    """

    journals: int
    closed_spans: int
    delivered_rows: int
    pending_rows: int
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def recover(settings: Settings | None = None, *, timeout: float = 30.0) -> Recovery:
    """Close and deliver what processes left behind in a directory.

    Orphaned journals are closed, delivered and removed. What a process that still lives could not deliver is
    delivered for it, if it isn't just doing so itself. Several recoveries at once don't get in each other's
    way. Only journals for the destination of the settings are touched.

    Args:
        settings: by default those of the environment.
        timeout: most seconds to wait for the backend.

    Raises:
        SettingsError: a variable has a value that is not accepted.
        JournalUnavailable: the directory can't be used.
    """
    from ..backends.project_ids import Identity
    from ..delivery.courier import Courier
    from .pipeline import make_backend

    settings = settings or Settings.from_env()
    deadline = Deadline.after(timeout)
    state_dir = prepare(settings.dir, settings.max_journal_bytes)
    courier = Courier(make_backend(settings, Identity()), DeadLetters(state_dir.directory, state_dir.byte_limit // 8))
    orphans = list(close_orphans(state_dir, settings.destination, deadline))
    borrowed = list(_undelivered(state_dir, settings.destination, {orphan.journal.path for orphan in orphans}))
    journals: list[FileJournal | BorrowedJournal] = [*(orphan.journal for orphan in orphans), *borrowed]
    before = sum(map(_pending, journals))
    for orphan in orphans:
        courier.add(orphan.journal, first=orphan.closing, orphan=True)
    for journal in borrowed:
        courier.add(journal)
    courier.drain(deadline, force=True)
    pending = sum(map(_pending, journals))
    error = courier.last_error or "the rest is being delivered by a process that still runs" if pending else None
    courier.close()
    return Recovery(
        len(orphans), sum(len(orphan.closing) for orphan in orphans), before - pending, pending, error
    )


def close_orphans(
    state_dir: StateDir, destination: Mapping[str, Any], deadline: Deadline, witness: Witness = lambda path: None,
    wanted: Callable[[Path], bool] = lambda path: True,
) -> Iterator[Orphan]:
    """Take over the journals of dead processes for this destination, and close their open spans in them.

    Local and quick; nothing is sent. Journals that are left at the deadline are another's to find.

    Args:
        witness: asked how the process of a journal died; what it says beats what the journal shows.
        wanted: false for a journal that is to be left alone for now.
    """
    for path in sorted((state_dir.directory / JOURNALS).glob("*")):
        if deadline.expired:
            return
        if not wanted(path):
            continue
        with contain(f"recover the journal {path.name}"):
            if path.name.startswith("."):
                _remove_unfinished(path)
                continue
            orphan = _close(path, state_dir, destination, witness)
            if orphan is not None:
                yield orphan


def _close(path: Path, state_dir: StateDir, destination: Mapping[str, Any], witness: Witness) -> Orphan | None:
    try:
        if not is_ours(read_header(path), destination):
            return None
        journal = FileJournal.adopt(path, state_dir)
    except (JournalError, FileNotFoundError) as error:
        logger.debug("%s is passed over: %s", path, error)  # damaged, or just being removed by its owner
        return None
    if journal is None:
        return None
    try:
        death = witness(path)
        alive = journal.last_sign_of_life = max(journal.last_sign_of_life or 0.0, death.at if death else 0.0)
        closing = [_closing_row(span, journal.spans, alive, death) for span in journal.spans.all_open()]
        if closing:
            try:
                journal.append([NewRow.of(row) for row in closing])
            except OSError as error:
                # They are delivered all the same; the journal is then kept, and found again by the next start.
                logger.warning("the ends of %d spans can't be written to %s: %s", len(closing), path, error)
        if journal.finished:
            journal.close()
            return None
    except BaseException:
        journal.abandon()
        raise
    return Orphan(journal, closing)


def _closing_row(span: OpenSpan, spans: OpenSpans, alive: float, death: Death | None) -> Row:
    """A span ends when its process is last known to have lived. It timed out only if the platform said so, or if
    that was so late that the platform may have ended it."""
    record = spans.record_of(span.owner)
    late = record is not None and record.deadline is not None and (
        death.timed_out if death else alive >= record.deadline - record.reserve
    )
    outcome = (death and death.outcome) or (Outcome.TIMED_OUT if late else Outcome.ABANDONED)
    is_root = record is not None and record.root == span.row_id
    error = None
    if is_root and not span.has_error:
        error = (death and death.error) or (
            "TimedOut: the process was alive until its deadline, and did not come back"
            if late else "Abandoned: the process ended without closing this span"
        )
    return closing_row(
        span.identity, end=max(alive, span.start), outcome=outcome, error=error,
        closed_by=death.closed_by if death else ClosedBy.RECOVERY, reason=death.reason if death else _PROCESS_ENDED,
        notes=death.notes if death else None,
    )


def is_ours(header: Mapping[str, Any], destination: Mapping[str, Any]) -> bool:
    """True if a journal was written for this destination; two keys that share a directory never mix."""
    return all(header.get(key) == value for key, value in destination.items()) and (
        header.get("backend") == destination["backend"]
    )


def _undelivered(
    state_dir: StateDir, destination: Mapping[str, Any], ours: Collection[Path]
) -> Iterator[BorrowedJournal]:
    """The journals of living processes with rows that have not been delivered; none of those in ``ours``."""
    from ..journal.borrowed import BorrowedJournal

    for path in sorted(set((state_dir.directory / JOURNALS).glob("[!.]*")).difference(ours)):
        with contain(f"read the journal {path.name}"):
            try:
                if not is_ours(read_header(path), destination):
                    continue
                journal = BorrowedJournal(path)
            except (JournalError, FileNotFoundError):
                continue
            waits = journal.attachments is not None and not journal.attachments.empty
            if waits or journal.acked < journal.end:
                yield journal


def _pending(journal: FileJournal | BorrowedJournal) -> int:
    return sum(1 for entry in journal.read(journal.acked) if entry.kind == Kind.ROW)


def _remove_unfinished(path: Path) -> None:
    """Remove what was to become a journal, or was one, if the process that was at it has died over it."""
    try:
        age = time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return  # it was not dead after all
    if age > _UNFINISHED_SECONDS:
        shutil.rmtree(path, ignore_errors=True)
