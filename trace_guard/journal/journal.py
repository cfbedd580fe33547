"""The journal of one process, in files."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contain import logger, warn_once
from ..errors import JournalError
from ..rows import Row, dump
from .base import Follower
from .directory import StateDir, make_journal
from .files import ATTACHMENTS, sync_directory, write_new
from .format import FORMAT, Entry, Kind, Position, encode_entry
from .invocation_record import InvocationRecord
from .locks import MOVES_WITH_FILE, FileLock
from .open_spans import OpenSpans
from .owned import has_directory
from .progress import DeliveryProgress
from .reader import read_header, row_in
from .row_facts import NewRow, RowFacts
from .segments import Segments
from .size_cap import SizeCap

if TYPE_CHECKING:
    from .attachments import FileSpool

__all__ = ["FileJournal"]

# A later time was not read off a clock.
_LATEST_TIME = 1e11
_SEGMENT_BYTES = 4 * 1024 * 1024


class FileJournal:
    """A journal whose writer lock this process holds. Thread-safe. See :class:`.base.Journal`.

    Attributes:
        path: the journal's directory.
        cap: decides which rows are still written as the directory fills up.
        attachments: the attachments that are waiting for upload; None if there never was one.
        last_sign_of_life: for an adopted journal, the last moment at which its process is known to have been alive,
            in seconds since the epoch; else None. Entries that are added to an adopted journal get this time, so that
            a second recovery sees the same.
    """

    durable = True

    def __init__(self, path: Path, lock: FileLock, state_dir: StateDir, spans: OpenSpans, *, sync: str = "os") -> None:
        read_header(path)
        self.path = path
        self.spans = spans
        self.handed_over = False
        self.lost: Position | None = None
        self.attachments: FileSpool | None = None
        self.last_sign_of_life: float | None = None
        self._header_file = str(path / "header")
        self._follower: Follower | None = None
        self._lock = lock
        self._mutex = threading.RLock()
        # A finalizer or a signal handler may log while its thread writes: its rows wait until that is done.
        self._is_writing = False
        self._waiting: deque[tuple[Sequence[NewRow], InvocationRecord | None]] = deque()
        self._sync = sync == "always"
        self._progress = DeliveryProgress(path)
        self._segments = Segments(path, max(4096, min(_SEGMENT_BYTES, state_dir.byte_limit // 16)), sync=self._sync)
        self.cap = SizeCap(state_dir.byte_limit, path, spans)

    @classmethod
    def create(
        cls, state_dir: StateDir, destination: Mapping[str, Any], spans: OpenSpans, *, sync: str = "os"
    ) -> FileJournal:
        """Begin a new journal. It is complete and locked before it gets the name by which other processes find it.

        Args:
            destination: what the header says of where rows go.
            spans: the spans of this process that are open, if an earlier journal has their starts.

        Raises:
            OSError: the disk doesn't take it.
            JournalError: the lock can't be taken.
        """
        path, lock = make_journal(state_dir, _header(destination), sync=sync == "always")
        journal = cls(path, lock, state_dir, spans, sync=sync)
        try:
            journal._carry(sys.maxsize)
        except BaseException:
            journal._remove()
            journal.abandon()
            raise
        return journal

    @classmethod
    def adopt(cls, path: Path, state_dir: StateDir, *, sync: str = "os") -> FileJournal | None:
        """Take over the journal of a dead process. None if the process lives, or if another process is first.

        Raises:
            JournalError, OSError: it can't be read, or is not safely this user's.
        """
        lock = FileLock(path / "lock")
        if not os.path.lexists(lock.path):
            return None
        touched = os.lstat(lock.path).st_mtime
        if not lock.acquire():
            return None
        try:
            journal = cls(path, lock, state_dir, OpenSpans(), sync=sync)
            journal.last_sign_of_life = max(touched, journal._observe_entries())
            if has_directory(path / ATTACHMENTS):
                journal.attachments = journal._open_spool(orphaned=True)
        except BaseException:
            lock.release()
            raise
        return journal

    @property
    def end(self) -> Position:
        """The position behind the last whole entry."""
        return self._segments.settled_end

    def follow(self, follower: Follower) -> None:
        """Hand over what is written from now on. There is one follower."""
        self._follower = follower

    @property
    def acked(self) -> Position:
        return self._progress.acked

    @property
    def size(self) -> int:
        """Bytes of the segments on disk."""
        return self._segments.size

    @property
    def intact(self) -> bool:
        """False if files were removed or changed by another program, such as a cleaner of temporary directories."""
        with self._mutex:
            return self.lost is None and self._segments.intact and os.path.lexists(self._header_file)

    # Writing

    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position:
        """Write the beginning of an invocation with its first rows, in one write.

        Raises:
            OSError: the disk doesn't take it, or the journal's files were removed. Nothing was written.
            JournalError: the journal is closed, and another process may have adopted it.
        """
        return self._append(rows, record)

    def append(self, rows: Sequence[NewRow]) -> Position:
        """Write rows in one write, and return the position behind them. Raises as :meth:`begin` does."""
        return self._append(rows)

    def _append(self, rows: Sequence[NewRow], record: InvocationRecord | None = None) -> Position:
        with self._mutex:
            own = rows, record
            self._waiting.append(own)
            if not self._is_writing:
                self._is_writing = True
                try:
                    self._append_waiting()
                except (OSError, JournalError):
                    with contextlib.suppress(ValueError):  # only what came during the write has failed
                        self._waiting.remove(own)
                    raise
                finally:
                    self._is_writing = False
            return self.end

    def append_made(self, make: Callable[[], Sequence[NewRow]]) -> Position:
        """Append the rows that ``make`` returns. No other row is written in between. Raises as :meth:`begin` does."""
        with self._mutex:
            self._check_writable()
            return self._append(make())

    def take_waiting(self) -> list[tuple[Sequence[NewRow], InvocationRecord | None]]:
        """Rows that came while their thread was writing, and that could not be written. Another journal needs them, as
        the call that logged them has returned."""
        with self._mutex:
            waiting, self._waiting = list(self._waiting), deque()
            return waiting

    def _append_waiting(self) -> None:
        while self._waiting:
            rows, record = self._waiting.popleft()
            try:
                self._write_rows(rows, record)
            except (OSError, JournalError):
                self._waiting.appendleft((rows, record))
                raise

    def _write_rows(self, rows: Sequence[NewRow], record: InvocationRecord | None) -> None:
        self._check_writable()
        if not self.cap.has_room_for(rows, self._bytes()):
            self._remove_delivered()
            rows = self.cap.fit(rows, self._bytes())
        entries = [encode_entry(Kind.ROW, new.encoded, new.flags, self.last_sign_of_life) for new in rows]
        if record is not None and entries:
            entries.insert(0, self._encode(Kind.INVOCATION, record.to_row()))
        end = self._write(entries, rows)
        if record is not None:
            self.spans.begin(record, end)
        for new in rows:
            self.spans.observe(new, end)
        self._segments.settle()

    def _check_writable(self) -> None:
        self._mend()
        if not self._lock.held:
            raise JournalError(f"{self.path} is closed")
        if not self.intact:
            raise FileNotFoundError(errno.ENOENT, "another program has removed or changed it", str(self.path))

    def _mend(self) -> None:
        """Complete a write that was interrupted, for example by an exception from a signal handler. Its entries that
        are on disk count, and nothing is written behind them, as the last one may be torn."""
        if self._segments.interrupted:
            self._segments.rewind()
            self._observe_entries()
            self._segments.settle()

    def _observe_entries(self) -> float:
        """Read which spans the entries on disk open and close. Returns the time of the latest entry."""
        latest = 0.0
        for entry in self._segments.scan(self.acked):
            if entry.time < _LATEST_TIME:  # false for NaN
                latest = max(latest, entry.time)
            row = row_in(entry, self.path)
            if row is None:
                continue
            if entry.kind == Kind.ROW:
                self.spans.observe(RowFacts(row), entry.end)
            elif entry.kind == Kind.IDENTITY:
                self.spans.carried(RowFacts(row), entry.end)
            elif entry.kind == Kind.INVOCATION:
                record = InvocationRecord.from_row(row)
                if record is not None:
                    self.spans.begin(record, entry.end)
        return latest

    def _encode(self, kind: Kind, row: Row) -> bytes:
        return encode_entry(kind, dump(row), at=self.last_sign_of_life)

    def _write(self, entries: Sequence[bytes], rows: Sequence[NewRow] = ()) -> Position:
        """Write entries, the last of which are these rows. Returns the position behind them."""
        start = self._segments.end
        if not entries:
            return start
        data = entries[0] if len(entries) == 1 else b"".join(entries)
        self._segments.write(data)
        end = self._segments.end
        if self.last_sign_of_life is None:  # an adopted journal gets few rows, and none of them is dropped
            self.cap.written(len(data))
        if self._follower is not None:
            self._follower.written(start, rows, end)
        return end

    def _bytes(self) -> int:
        return self.size + (self.attachments.size if self.attachments is not None else 0)

    def readdress(self, destination: Mapping[str, Any]) -> None:
        """Name another destination in the header: the process had none before.

        Raises:
            OSError: the disk doesn't take it. The header stays as it was.
        """
        with self._mutex:
            if not self._lock.held:
                return
            part = self.path / "header.part"
            part.unlink(missing_ok=True)
            write_new(part, _header(destination), sync=self._sync)
            os.replace(part, self._header_file)
            if self._sync:
                sync_directory(self.path)

    # Attachments

    def make_room_for_attachments(self) -> FileSpool:
        """The place of attachments, which is made for the first one."""
        with self._mutex:
            if self.attachments is None:
                self.attachments = self._open_spool()
            return self.attachments

    def _open_spool(self, *, orphaned: bool = False) -> FileSpool:
        from .attachments import FileSpool  # most processes have none

        return FileSpool(
            self.path, self.cap.attachments_limit, lambda: self.size + self.cap.others(),
            sync=self._sync, orphaned=orphaned,
        )

    # Delivering

    def read(self, after: Position) -> Iterator[Entry]:
        """The entries behind ``after`` that are written now. Sets ``lost`` if some of them are missing."""
        for at, stop in self._segments.ranges(after):
            for entry in self._segments.read(at, stop):
                at = entry.end
                yield entry
            if at < stop:
                self._note_missing(at, stop)

    def _note_missing(self, start: Position, stop: Position) -> None:
        with self._mutex:
            if stop <= self.acked:
                return  # delivered and removed meanwhile
            self.lost = start if self.lost is None else min(self.lost, start)
        warn_once(f"lost:{self.path}", "another program has removed or changed files of the journal %s: rows that "
                  "were not delivered yet are lost", self.path)

    def take_delivery(self) -> bool:
        """Become the process that delivers, which :meth:`acknowledge` needs. False while another process is."""
        if not self._progress.take():
            return False
        # Only the writer removes the segments that another process has delivered.
        self.acknowledge(min(self._progress.saved(), self.end))
        return True

    def leave_delivery(self) -> None:
        self._progress.release()

    def acknowledge(self, position: Position) -> None:
        """All entries up to ``position`` have reached the backend. Removes the segments before it."""
        with self._mutex:
            if position <= self.acked:
                return
            self._progress.acked = position
            if not self._lock.held:
                return  # closed during the request: another process may have adopted it
            is_writing, self._is_writing = self._is_writing, True
            try:
                if not is_writing:
                    self._mend()
                self._progress.save()
                # Even if that failed, as this makes room on a full disk.
                self._remove_delivered()
                if not is_writing:
                    with contextlib.suppress(OSError, JournalError):
                        self._append_waiting()
            finally:
                self._is_writing = is_writing

    def _remove_delivered(self) -> None:
        try:
            for number in self._segments.before(self.acked.segment):
                self._carry(number)
                self._segments.remove(number)
        except OSError as error:
            logger.debug("%s: a delivered segment can't be removed: %s", self.path, error)

    def _carry(self, segment: int) -> None:
        """Write again what a recovery must know of open spans and live invocations that are recorded in segments up
        to this one."""
        records, spans = self.spans.up_to(segment)
        if self.last_sign_of_life is not None and not spans:
            return  # no invocation of a dead process is live
        entries = [self._encode(Kind.INVOCATION, record.to_row()) for record in records]
        entries += [self._encode(Kind.IDENTITY, span.start_row) for span in spans]
        end = self._write(entries)
        for record in records:
            self.spans.moved(record.root, end)
        for span in spans:
            span.position = end
        self._segments.settle()

    # Life and death

    def touch(self) -> None:
        """Leave a sign of life. Spans that are open when this process is killed end at the last one."""
        self._lock.touch()

    def rest(self) -> None:
        """Close the segment file, as little or nothing will be written from now on."""
        self._segments.rest()

    @property
    def finished(self) -> bool:
        """True if everything is delivered and no span is open, so that the files are not needed any more."""
        if self.attachments is not None and not self.attachments.empty:
            return False
        return self.acked >= self.end and (self.handed_over or not self.spans.all_open())

    def close(self) -> None:
        """Stop writing. A finished journal is removed; any other is left for the next start."""
        with self._mutex:
            self._mend()
            if self._lock.held and self.finished:
                self._remove()
            self._segments.rest()
            self.abandon()

    def _remove(self) -> None:
        # Renamed first, so that no process finds half of it.
        doomed = self.path.with_name(f".gone-{self.path.name}")
        with contextlib.suppress(OSError):
            if not MOVES_WITH_FILE:
                self.abandon()
            os.rename(self.path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def abandon(self) -> None:
        """Close the files only. In a forked child: the parent goes on with the journal."""
        self._follower = None
        self._segments.abandon()
        if self.attachments is not None:
            self.attachments.abandon()
        self._progress.release()
        self._lock.release()


def _header(destination: Mapping[str, Any]) -> bytes:
    return dump({"format": FORMAT, "created": time.time(), "pid": os.getpid(), **destination})
