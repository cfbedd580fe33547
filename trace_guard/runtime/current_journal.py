"""Selects the journal for new rows: on disk if possible, otherwise in memory until the next attempt at the disk."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..contain import logger, warn_once
from ..delivery.courier import Courier
from ..errors import JournalError
from ..journal.base import WritableJournal
from ..journal.directory import JOURNALS, StateDir, prepare
from ..journal.format import Position
from ..journal.invocation_record import InvocationRecord
from ..journal.journal import FileJournal
from ..journal.memory import MemoryJournal
from ..journal.open_spans import OpenSpans
from ..journal.row_facts import NewRow
from ..settings import Settings
from ..system.clock import monotonic
from ..system.interruption import pass_interruption

__all__ = ["CurrentJournal", "prepare_directory"]

# How long a process stays with its memory after the disk failed, before it tries the disk again.
_DISK_RETRY_SECONDS = 60.0


def prepare_directory(settings: Settings) -> StateDir | None:
    """The directory of the settings, ready for use; None, with a warning, if it can't be used."""
    try:
        return prepare(settings.dir, settings.max_journal_bytes)
    except JournalError as error:
        warn_once("memory", "%s. Tracing goes on in memory: what can't be delivered before the process ends "
                  "is lost", error)
        return None


class CurrentJournal:
    """The journal of a pipeline; made when it is first needed, and again after a fork or when its files are gone.

    Args:
        settings: say where journals are.
        destination: what the headers of journals name as the destination.
        spans: the pipeline's open spans, which the journal keeps up to date.
        courier: delivers from each journal.
        state_dir: the prepared directory of the settings; None if it can't be used.

    Attributes:
        state_dir: as given, or as prepared again after it was cleared away.
    """

    def __init__(
        self, settings: Settings, destination: Mapping[str, Any], spans: OpenSpans, courier: Courier,
        state_dir: StateDir | None,
    ) -> None:
        self.state_dir = state_dir
        self._destination = destination
        self._settings = settings
        self._spans = spans
        self._courier = courier
        self._lock = threading.RLock()
        self._journal: WritableJournal | None = None
        self._disk_again_at = 0.0

    @property
    def known(self) -> WritableJournal | None:
        """The journal if there is one already."""
        return self._journal

    def get(self) -> WritableJournal:
        """The journal to write to."""
        journal = self._journal
        if journal is not None and (journal.durable or monotonic() < self._disk_again_at):
            return journal
        with self._lock:
            if self._journal is None or monotonic() >= self._disk_again_at:
                self._open()
            assert self._journal is not None
            return self._journal

    def append(
        self, rows: Sequence[NewRow], record: InvocationRecord | None = None
    ) -> tuple[WritableJournal, Position]:
        """Write rows to the journal, or to another one if that can't be written.

        Args:
            record: the beginning of an invocation whose first rows they are.

        Returns:
            The journal that has the rows, and the position behind them.
        """
        journal = self.get()
        try:
            end = journal.append(rows) if record is None else journal.begin(record, rows)
        except (OSError, JournalError) as error:
            return self._write_elsewhere(
                journal, error, lambda other: other.append(rows) if record is None else other.begin(record, rows)
            )
        self._courier.rows_arrived(journal)
        return journal, end

    def append_made(self, make: Callable[[], Sequence[NewRow]]) -> tuple[WritableJournal, Position]:
        """Write the rows that ``make`` returns, with no other row in between. Returns as :meth:`append` does."""
        journal = self.get()
        try:
            end = journal.append_made(make)
        except (OSError, JournalError) as error:
            return self._write_elsewhere(journal, error, lambda other: other.append_made(make))
        self._courier.rows_arrived(journal)
        return journal, end

    def _write_elsewhere(
        self, journal: WritableJournal, error: Exception, write: Callable[[WritableJournal], Position]
    ) -> tuple[WritableJournal, Position]:
        """Write to other journals in the place of one that can't be written."""
        end = None
        waiting: list[tuple[Sequence[NewRow], InvocationRecord | None]] = []
        for instead_of in (self._instead_of, self._memory_instead_of):
            pass_interruption(error)
            if isinstance(journal, FileJournal):
                waiting += journal.take_waiting()
            journal = instead_of(journal, error)
            try:
                end = write(journal)
                break
            except (OSError, JournalError) as next_error:
                error = next_error
        if end is None:
            raise error
        for rows, record in waiting:
            self.append(rows, record)
        self._courier.rows_arrived(journal)
        return journal, end

    def reopen(self) -> None:
        """Go on in a new journal, if there is one: the present one may be another process's too."""
        with self._lock:
            if self._journal is not None:
                self._open(anew=True)

    def readdress(self, settings: Settings, destination: Mapping[str, Any]) -> None:
        """Name this destination in the headers of this process's journals, which had none before."""
        with self._lock:
            self._settings, self._destination = settings, destination
            orphans = self._courier.orphans()
            for journal in self._courier.journals():
                if isinstance(journal, FileJournal) and journal not in orphans:
                    try:
                        journal.readdress(self._header())
                    except OSError as error:
                        # Only a recovery reads the header. It then delivers to the destination of its own process.
                        logger.debug("the header of %s can't be written: %s", journal.path, error)

    def close(self) -> None:
        """Close the files. Undelivered rows stay on disk; a later row creates another journal."""
        with self._lock:
            journal, self._journal = self._journal, None
        if journal is not None:
            journal.close()

    def after_fork(self, spans: OpenSpans) -> None:
        """In a forked child: the parent goes on with its journal."""
        self._lock = threading.RLock()
        self._journal = None
        self._spans = spans

    def _open(self, *, anew: bool = False) -> None:
        if self._journal is not None and self._journal.durable and not anew:
            return
        state_dir = self.state_dir or prepare_directory(self._settings)
        if state_dir is not None and not (state_dir.directory / JOURNALS).is_dir():
            state_dir = prepare_directory(self._settings)  # a cleaner of temporary files may have been here
        if state_dir is None:
            self._disk_again_at = monotonic() + _DISK_RETRY_SECONDS
            if self._journal is None or anew:
                self._use(MemoryJournal(self._spans))
            return
        self.state_dir = state_dir
        try:
            self._use(FileJournal.create(state_dir, self._header(), self._spans, sync=self._settings.sync))
        except (OSError, JournalError) as error:
            self._to_memory(f"no journal can be made in {state_dir.directory}: {error}")

    def _use(self, journal: WritableJournal) -> None:
        self._courier.add(journal, instead_of=self._journal)
        self._journal = journal

    def _instead_of(self, journal: WritableJournal, error: Exception) -> WritableJournal:
        """Another journal after one that can't be written: on disk if only its files were cleared away."""
        with self._lock:
            if self._journal is not journal:
                return self.get()  # another thread was here first
            if not isinstance(journal, FileJournal) or journal.intact:
                return self._memory_instead_of(journal, error)
            self._open(anew=True)
            self._save_from(journal)
            assert self._journal is not None
            return self._journal

    def _save_from(self, journal: FileJournal) -> None:
        """Find the rows that are lost after another program changed the journal. If they hold the start of open spans,
        write it again."""
        self._courier.note_loss(journal)
        if journal.lost is not None and self._journal is not None:
            starts = [{**span.start_row, "_is_merge": True} for span in self._spans.all_open()]
            if starts:
                self._journal.append([NewRow.of(row) for row in starts])

    def _memory_instead_of(self, journal: WritableJournal, error: Exception) -> WritableJournal:
        return self._to_memory(f"the journal can't be written: {error}")

    def _to_memory(self, why: str) -> WritableJournal:
        warn_once("memory", "%s. Tracing goes on in memory: what can't be delivered before the process ends is "
                  "lost; set TRACE_GUARD_DIR to a directory that can be written", why)
        with self._lock:
            self._disk_again_at = monotonic() + _DISK_RETRY_SECONDS
            if self._journal is None or self._journal.durable:
                # The courier still delivers the rows of the journal on disk.
                self._use(MemoryJournal(self._spans))
            assert self._journal is not None
            return self._journal

    def _header(self) -> dict[str, Any]:
        settings = self._settings
        return {**self._destination, "project": settings.project, "project_id": settings.project_id}
