"""Finds and adopts the journals of dead processes, and closes the spans that are open in them.

A journal is an *orphan* if its lock can be taken: its writer is dead.
"""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..contain import contain, logger, warn_once
from ..deadline import Deadline
from ..errors import JournalError
from ..outcome import ClosedBy, Outcome
from ..redaction.urls import strip_userinfo
from ..rows import Row, closing_row
from .directory import JOURNALS, StateDir
from .format import UNDECIDED
from .journal import FileJournal
from .open_spans import OpenSpan, OpenSpans
from .owned import UnsafeFile
from .reader import read_header
from .row_facts import NewRow

__all__ = ["MOST_ADOPTED", "Death", "Orphan", "OrphanSearch", "Witness", "is_ours", "names_of_journals"]

MOST_ADOPTED = 32
"""The most orphans that are open at a time. Each takes two descriptors, or three with attachments."""

# A hidden directory of this age was left behind by a process that died while it made or removed a journal.
_UNFINISHED_SECONDS = 60.0
_PROCESS_ENDED = "process_ended"


class Death(NamedTuple):
    """How a process ended, as reported by a process that saw it.

    Attributes:
        at: when, in seconds since the epoch.
        timed_out: whether the platform ended it at its deadline.
        facts: additions to ``metadata.trace_guard`` of the spans that it left open.
        outcome: the outcome of those spans; by default it follows from their deadline.
        closed_by: who closes them.
        reason: why they are closed, as one word.
        error: the error text of the roots among them.
    """

    at: float
    timed_out: bool
    facts: Mapping[str, Any]
    outcome: Outcome | None = None
    closed_by: ClosedBy = ClosedBy.RECOVERY
    reason: str = _PROCESS_ENDED
    error: str | None = None


Witness = Callable[[Path], "Death | None"]
"""Returns how the process of a journal died; None if only the journal is known."""


class Orphan(NamedTuple):
    """An adopted journal, and the rows that closed its open spans."""

    journal: FileJournal
    closing: list[Row]


class OrphanSearch:
    """Adopts orphans, a few at a time: until it is delivered, each one takes descriptors and memory.

    Each call continues where the last one stopped. The directory is listed again when all journals have been
    examined. Older journals come first, so that of two journals of one process the later one is delivered last.

    Args:
        witness: says how the process of a journal died. It takes precedence over the journal.
        wanted: false for a journal to leave alone for now.
        since: a time as in the names of journals. Journals from this time on come first.
        names: the journals to begin with.
    """

    def __init__(
        self, state_dir: StateDir, destination: Mapping[str, Any], *, witness: Witness = lambda path: None,
        wanted: Callable[[Path], bool] = lambda path: True, since: str = "",
        names: Iterable[str] = (),
    ) -> None:
        self._state_dir = state_dir
        self._destination = destination
        self._witness = witness
        self._wanted = wanted
        self._since = since
        # The last name is the next one to examine.
        self._names = sorted(names, reverse=True)

    @property
    def unreached(self) -> Sequence[str]:
        """The names of the journals that the next call examines; empty if it lists the directory again."""
        return self._names

    @property
    def is_at_recent(self) -> bool:
        """True if the next journal is one of those that come first because of ``since``."""
        return bool(self._names and self._since) and self._names[-1] >= self._since

    def adopt(self, most: int, deadline: Deadline) -> list[Orphan]:
        """Adopt up to ``most`` orphans for this destination, and write the ends of their open spans. Sends nothing.
        What is left at the deadline is for the next call."""
        names = self._names = self._names or names_of_journals(self._state_dir, self._since)
        adopted: list[Orphan] = []
        try:
            while names and len(adopted) < most and not deadline.expired:
                path = self._state_dir.directory / JOURNALS / names.pop()
                if path.name.startswith("."):
                    _remove_unfinished(path)
                elif self._wanted(path):
                    orphan = self._take(path)
                    if orphan is not None:
                        adopted.append(orphan)
        except _OutOfDescriptors:
            # Half of them are given up again: delivery and the user's code need descriptors too.
            kept = (len(adopted) + 1) // 2
            for orphan in adopted[kept:]:
                orphan.journal.abandon()
            names += [path.name, *reversed([orphan.journal.path.name for orphan in adopted[kept:]])]
            del adopted[kept:]
        except BaseException:
            for orphan in adopted:
                orphan.journal.abandon()
            raise
        return adopted

    def adopt_recent(self, most: int, deadline: Deadline) -> list[Orphan]:
        """Like :meth:`adopt`, but lists the directory anew, and leaves the journals from before ``since`` alone."""
        self._names = [name for name in names_of_journals(self._state_dir) if name >= self._since]
        return self.adopt(most, deadline) if self._names else []

    def _take(self, path: Path) -> Orphan | None:
        try:
            return _close(path, self._state_dir, self._destination, self._witness)
        except Exception as fault:
            cause = fault if isinstance(fault, OSError) else fault.__cause__
            if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
                raise _OutOfDescriptors from fault
            if isinstance(fault, (JournalError, FileNotFoundError, UnsafeFile)):
                if os.path.lexists(path):  # else its owner is just removing it
                    warn_once(f"damaged:{path}", "a journal is skipped: %s", fault)
                return None
            with contain(f"recover the journal {path.name}"):
                raise
        return None


class _OutOfDescriptors(Exception):
    pass


def names_of_journals(state_dir: StateDir, since: str = "") -> list[str]:
    """The names of all journals, in reverse order: the one to begin with is the last."""
    try:
        names = os.listdir(state_dir.directory / JOURNALS)
    except FileNotFoundError:
        return []
    return sorted(names, key=lambda name: (name < since, name), reverse=True)


def _close(path: Path, state_dir: StateDir, destination: Mapping[str, Any], witness: Witness) -> Orphan | None:
    if not is_ours(read_header(path), destination):
        return None
    journal = FileJournal.adopt(path, state_dir)
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
                # They are delivered anyway. The journal is kept, and the next start finds it again.
                logger.warning("the ends of %d spans can't be written to %s: %s", len(closing), path, error)
            journal.rest()
        if journal.finished:
            journal.close()
            return None
    except BaseException:
        journal.abandon()
        raise
    return Orphan(journal, closing)


def _closing_row(span: OpenSpan, spans: OpenSpans, alive: float, death: Death | None) -> Row:
    """Close a span at the last moment its process is known to have been alive. It timed out if the platform said so, or
    if that moment is within the reserve before the deadline."""
    record = spans.record_of(span.owner)
    late = record is not None and record.deadline is not None and (
        death.timed_out if death else alive >= record.deadline - record.reserve
    )
    outcome = (death and death.outcome) or (Outcome.TIMED_OUT if late else Outcome.ABANDONED)
    is_root = record is not None and record.root == span.row_id
    error = None
    if is_root and not span.error:
        error = (death and death.error) or (
            "TimedOut: the process was alive until its deadline and did not return"
            if late else "Abandoned: the process ended without closing this span"
        )
    return closing_row(
        span.identity, end=max(alive, span.start), outcome=outcome, error=error,
        closed_by=death.closed_by if death else ClosedBy.RECOVERY, reason=death.reason if death else _PROCESS_ENDED,
        place=span.place,
        facts=death.facts if death else None,
    )


def is_ours(header: Mapping[str, Any], destination: Mapping[str, Any]) -> bool:
    """True if a journal was written for this destination. Rows of different keys never mix. Rows of a process that had
    no key are for any key with the same URLs and organisation, and for the local store if nothing was delivered."""
    backend = destination["backend"]
    if header.get("backend") != backend and (header.get("backend") != UNDECIDED or backend == "memory"):
        return False
    return backend == "local" or all(
        name == "backend" or _without_user(header.get(name)) == value
        or (name == "key_fingerprint" and header.get(name) is None)
        for name, value in destination.items()
    )


def _remove_unfinished(path: Path) -> None:
    """Remove a hidden directory if the process that made or removed that journal has died meanwhile."""
    try:
        age = time.time() - os.lstat(path).st_mtime
    except FileNotFoundError:
        return  # its process has finished
    if age > _UNFINISHED_SECONDS:
        shutil.rmtree(path, ignore_errors=True)


def _without_user(value: Any) -> Any:
    """The value without the user and password that earlier releases wrote in URLs."""
    return strip_userinfo(value) if isinstance(value, str) and "@" in value else value
