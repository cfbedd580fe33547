"""One process's journal: the writing side, and what the courier needs of it."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..contain import logger, warn_once
from ..errors import JournalError
from ..rows import Row, dump, has_ended, is_span_row, started_at, without_payload
from .base import NewRow
from .directory import JOURNALS, StateDir
from .files import ATTACHMENTS, bytes_of_journals, size_of, sync_directory, write_new
from .format import (
    ENTRY_OVERHEAD,
    FORMAT,
    MAGIC,
    PAYLOAD_LIMIT,
    Entry,
    Flag,
    Kind,
    Position,
    encode_acked,
    encode_entry,
    segment_name,
)
from .invocation_record import InvocationRecord
from .locks import FileLock
from .open_spans import OpenSpans
from .owned import UnsafeFile, create_file, has_directory, is_own_file, open_file
from .reader import START, entries_between, read_acked, read_entries, read_header, row_in, segments

if TYPE_CHECKING:
    from .attachments import FileSpool

__all__ = ["FileJournal"]

# A time that is later than this was not read off a clock.
_NEVER = 1e11
SEGMENT_BYTES = 4 * 1024 * 1024
_PAYLOAD_SHARE = 0.75
_SPANS_SHARE = 0.9
# Attachments may fill the directory up to here, so that they never cost a row.
_ATTACHMENTS_SHARE = 0.5
# How much may be written by others in the same directory before the total is looked up again.
_RECOUNT_BYTES = 1024 * 1024


class FileJournal:
    """A journal in files, whose writer lock this process holds.

    Attributes:
        path: the journal's own directory.
        header: the destination and the writer, as in the file ``header``.
        dropped_spans: how many spans the size cap has cost.
        handed_over: True once a later journal of this process knows of every span that is open in this one.
        lost: the position of the first rows that can't be read back, as another program has removed or changed the
            files; None if there are none.
        attachments: those that are yet to be uploaded; None if there never was one.
        last_sign_of_life: for an adopted journal, the last moment at which its writer is known to have lived, in
            seconds since the epoch, never earlier than its last row; else None. What is added to an adopted
            journal is stamped with it, so that the next recoverer is not misled if we die in the middle.
    """

    durable = True

    def __init__(self, path: Path, lock: FileLock, state_dir: StateDir, spans: OpenSpans, *, sync: str = "os") -> None:
        self.path = path
        self.header: Mapping[str, Any] = read_header(path)
        self._header_file = str(path / "header")
        self.spans = spans
        self.dropped_spans = 0
        self.handed_over = False
        self.lost: Position | None = None
        self.attachments: FileSpool | None = None
        self.last_sign_of_life: float | None = None
        self._lock = lock
        self._courier_lock = FileLock(path / "courier.lock")
        self._mutex = threading.RLock()
        self._state_dir = state_dir
        self._sync = sync == "always"
        self._segment_bytes = max(4096, min(SEGMENT_BYTES, state_dir.byte_limit // 16))
        self._descriptor: int | None = None
        self._acked_descriptor: int | None = None
        self._acked = read_acked(path)
        self._sizes = self._measured()
        # How far each segment holds whole entries, as written or read by this process.
        self._ends: dict[int, int] = {}
        # Device and inode of the segment that is written to.
        self._written_to: tuple[int, int] | None = None
        self._others, self._uncounted = 0, _RECOUNT_BYTES
        self._end = START
        # Where the end was before a write, until its rows are booked: it stays if the write is broken off.
        self._unbooked: Position | None = None

    @classmethod
    def create(
        cls, state_dir: StateDir, destination: Mapping[str, Any], spans: OpenSpans, *, sync: str = "os"
    ) -> FileJournal:
        """Begin a new journal. It is complete and locked before it gets the name by which others find it.

        Spans that are open already, as they began in an earlier journal of this process, are known to it.

        Raises:
            OSError: the disk won't have it.
            JournalError: the lock could not be taken.
        """
        name = f"{time.time_ns() // 1_000_000}-{os.getpid()}-{os.urandom(4).hex()}"
        parent = state_dir.directory / JOURNALS
        hidden = parent / f".new-{name}"
        hidden.mkdir(mode=0o700)
        lock = FileLock(hidden / "lock")
        try:
            header = {"format": FORMAT, "created": time.time(), "pid": os.getpid(), **destination}
            write_new(hidden / "header", dump(header), sync=sync == "always")
            if not lock.acquire():
                raise JournalError(f"the lock of the new journal {hidden} could not be taken")
            os.rename(hidden, parent / name)
            if sync == "always":
                sync_directory(parent)
        except BaseException:
            lock.release()
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        lock.moved_to(parent / name / "lock")
        journal = cls(parent / name, lock, state_dir, spans, sync=sync)
        try:
            journal._carry()
        except BaseException:
            journal._remove()
            journal.abandon()
            raise
        return journal

    @classmethod
    def adopt(cls, path: Path, state_dir: StateDir, *, sync: str = "os") -> FileJournal | None:
        """Take over the journal of a process that is gone; None if it is not, or if someone else was first.

        Its open spans are read off its entries.

        Raises:
            JournalError, OSError: it can't be read, or is not safely ours.
        """
        lock = FileLock(path / "lock")
        if not os.path.lexists(lock.path):
            return None
        touched = os.lstat(lock.path).st_mtime
        if not lock.acquire():
            return None
        try:
            journal = cls(path, lock, state_dir, OpenSpans(), sync=sync)
            # Little is written to it, and never dropped: the other journals need not be counted for that.
            journal._uncounted = 0
            journal.last_sign_of_life = max(touched, journal._read_on())
            if has_directory(path / ATTACHMENTS):
                journal.attachments = journal._attachments(orphaned=True)
        except BaseException:
            lock.release()
            raise
        return journal

    def _read_on(self) -> float:
        """Read off what the entries behind ``end`` open and close, up to a torn tail; the time of the latest."""
        latest = 0.0
        # Apart, as what follows the acknowledged position is delivered even if something before it is damaged.
        before = read_entries(self.path, self._end, self._acked)
        for entry in chain(before, read_entries(self.path, max(self._end, self._acked))):
            if entry.time < _NEVER:  # which is false for what is no number
                latest = max(latest, entry.time)
            self._end = entry.end
            self._ends[entry.end.segment] = entry.end.offset
            row = row_in(entry, self.path)
            if row is None:
                continue
            if entry.kind == Kind.ROW:
                self.spans.observe(row, entry.end)
            elif entry.kind == Kind.IDENTITY:
                self.spans.carried(row, entry.end)
            elif entry.kind == Kind.INVOCATION:
                record = InvocationRecord.from_row(row)
                if record is not None:
                    self.spans.begin(record, entry.end)
        return latest

    # Writing

    @property
    def end(self) -> Position:
        """The position behind the last whole entry."""
        return self._end

    @property
    def acked(self) -> Position:
        return self._acked

    @property
    def size(self) -> int:
        """Bytes that the segments take up."""
        return sum(self._sizes.values())

    @property
    def intact(self) -> bool:
        """False once its files are not as this process has left them: a cleaner of temporary directories has removed
        some, or another program has replaced, cut or extended the segment that is written to."""
        with self._mutex:
            if self.lost is not None or not is_own_file(self._header_file):
                return False
            if self._descriptor is None or self._unbooked is not None:
                return True
            try:
                found = os.lstat(self.path / segment_name(self._end.segment))
            except OSError:
                return False
            return (found.st_dev, found.st_ino) == self._written_to and found.st_size == self._end.offset

    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position:
        """Write that an invocation begins, with its first rows, in one go.

        Raises:
            OSError: the disk won't have it, or the journal's files were removed; nothing was written.
            JournalError: it was closed, and may be another's by now.
        """
        with self._mutex:
            self._ready()
            fitting = self._fitting(rows)
            self.spans.begin(record, Position(self._active(), self._end.offset))
            if fitting:
                self._write([self._encoded(Kind.INVOCATION, dump(record.to_row())), *map(self._row, fitting)])
            self._book(fitting)
            return self._end

    def append(self, rows: Sequence[NewRow]) -> Position:
        """Write rows in one go and read off what they open and close; the position behind them.

        Raises:
            OSError, JournalError: as in :meth:`begin`.
        """
        with self._mutex:
            self._ready()
            fitting = self._fitting(rows)
            if fitting:
                self._write([*map(self._row, fitting)])
            self._book(fitting)
            return self._end

    def append_made(self, make: Callable[[], Sequence[NewRow]]) -> Position:
        """Append the rows that ``make`` returns; no other row is written in between.

        Raises:
            OSError, JournalError: as in :meth:`begin`.
        """
        with self._mutex:
            self._ready()
            return self.append(make())

    def make_room_for_attachments(self) -> FileSpool:
        """Where attachments are kept; made when there is a first one."""
        with self._mutex:
            if self.attachments is None:
                self.attachments = self._attachments()
            return self.attachments

    def _attachments(self, *, orphaned: bool = False) -> FileSpool:
        from .attachments import FileSpool  # most processes have none

        def used() -> int:
            return self.size + bytes_of_journals(self.path.parent, but=self.path.name)

        most = int(self._state_dir.byte_limit * _ATTACHMENTS_SHARE)
        return FileSpool(self.path, most, used, sync=self._sync, orphaned=orphaned)

    def _ready(self) -> None:
        self._mend()
        if not self._lock.held:
            raise JournalError(f"{self.path} was closed")
        if not self.intact:
            raise FileNotFoundError(errno.ENOENT, "another program has removed or changed it", str(self.path))

    def _mend(self) -> None:
        """After a write that an exception from a signal handler has broken off: book what of it is on disk, and
        write no more behind it, as it may be torn."""
        if self._unbooked is None:
            return
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        self._end = self._unbooked
        self._read_on()
        self._sizes = self._measured()
        self._unbooked = None

    def _book(self, rows: Sequence[NewRow]) -> None:
        for new in rows:
            self.spans.observe(new.row, self._end)
        self._unbooked = None

    def _fitting(self, rows: Sequence[NewRow]) -> list[NewRow]:
        """What of the rows the size cap lets in: payloads go first, then spans that have not begun, and never
        the end of one that has."""
        cap, more = self._state_dir.byte_limit, sum(len(new.encoded) + ENTRY_OVERHEAD for new in rows)
        used = self._used()
        if used + more > cap * _PAYLOAD_SHARE:
            self._remove_acked()
            used = self._used()
        fitting: list[NewRow] = []
        for new in rows:
            if len(new.encoded) > PAYLOAD_LIMIT:
                warn_once("cap:row", "a row of %d bytes is too large to be kept: its input and output are dropped",
                          len(new.encoded))
                if not is_span_row(new.row):
                    continue
                new = NewRow(new.row, dump(without_payload(new.row)), new.flags)
            total = used + len(new.encoded) + ENTRY_OVERHEAD
            if is_span_row(new.row):
                row_id = str(new.row.get("id"))
                if self.spans.was_dropped(row_id):
                    continue
                if total > cap * _PAYLOAD_SHARE:
                    begun = self.spans.is_open(row_id) or any(str(other.row.get("id")) == row_id for other in fitting)
                    if not self._may_stay(new.row, row_id, begun=begun, full=total > cap * _SPANS_SHARE):
                        continue
                    warn_once("cap:payload", "the journal in %s nears its cap (%d bytes): inputs and outputs are "
                              "dropped until deliveries succeed again", self.path, cap)
                    new = NewRow(new.row, dump(without_payload(new.row)), new.flags)
            used += len(new.encoded) + ENTRY_OVERHEAD
            fitting.append(new)
        return fitting

    def _used(self) -> int:
        """Bytes that count against the cap."""
        return self.size + self._others + (self.attachments.size if self.attachments is not None else 0)

    def _may_stay(self, row: Row, row_id: str, *, begun: bool, full: bool) -> bool:
        """Whether a row is still worth its room without its payload."""
        starts = started_at(row) is not None
        if not full:
            return begun or starts or has_ended(row)
        if not begun and starts:
            self.spans.drop(row_id)
            self.dropped_spans += 1
            warn_once("cap:spans", "the journal in %s is full (%d bytes): new spans are not recorded until "
                      "deliveries succeed again", self.path, self._state_dir.byte_limit)
        return begun and has_ended(row)

    def _row(self, new: NewRow) -> bytes:
        return self._encoded(Kind.ROW, new.encoded, new.flags)

    def _encoded(self, kind: Kind, payload: bytes, flags: Flag = Flag.NONE) -> bytes:
        return encode_entry(kind, payload, flags, self.last_sign_of_life)

    def _write(self, entries: Sequence[bytes]) -> None:
        data = b"".join(entries)
        self._unbooked = self._end
        try:
            # A journal that was adopted or mended has no descriptor: never behind a tail that may be torn.
            if self._descriptor is None or self._end.offset + len(data) > self._segment_bytes + len(MAGIC):
                self._next_segment()
            self._write_whole(data)
        except OSError:
            self._unbooked = None
            raise
        self._end = Position(self._end.segment, self._end.offset + len(data))
        self._sizes[self._end.segment] = self._ends[self._end.segment] = self._end.offset
        self._recount(len(data))

    def _write_whole(self, data: bytes) -> None:
        descriptor, written = self._descriptor, 0
        assert descriptor is not None
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:] if written else data)
            if self._sync:
                os.fsync(descriptor)
        except OSError:
            # A part of it may have fitted; what can't be cut off is a torn tail, so never write behind it.
            try:
                os.ftruncate(descriptor, self._end.offset)
            except OSError:
                self._descriptor = None
                os.close(descriptor)
            raise

    def _active(self) -> int:
        return max(1, self._end.segment)

    def _next_segment(self) -> None:
        number = max(self._end.segment, self._acked.segment, *self._sizes) + 1
        path = self.path / segment_name(number)
        descriptor = create_file(path)
        try:
            if os.write(descriptor, MAGIC) < len(MAGIC):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            if self._sync:
                sync_directory(self.path)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        former, self._descriptor = self._descriptor, descriptor
        found = os.fstat(descriptor)
        self._written_to = found.st_dev, found.st_ino
        self._end = Position(number, len(MAGIC))
        self._sizes[number] = self._ends[number] = len(MAGIC)
        if former is not None:
            os.close(former)

    def _measured(self) -> dict[int, int]:
        return {number: size_of(self.path / segment_name(number)) for number in segments(self.path)}

    def _recount(self, written: int) -> None:
        """Look up now and then how much other processes keep in the directory that the cap is for."""
        self._uncounted += written
        if self._uncounted < min(_RECOUNT_BYTES, self._state_dir.byte_limit // 16):
            return
        self._uncounted = 0
        self._others = bytes_of_journals(self.path.parent, but=self.path.name)

    # Delivering

    def read(self, after: Position) -> Iterator[Entry]:
        """The entries behind ``after`` that are written now. What turns out to be missing among them is ``lost``."""
        with self._mutex:
            until, ends = self._end, sorted(self._ends.items())
        for number, stop in ends:
            if not after.segment <= number <= until.segment:
                continue
            stop = until.offset if number == until.segment else stop
            at = max(len(MAGIC), after.offset if number == after.segment else 0)
            for entry in self._entries(number, at, stop):
                at = entry.end.offset
                yield entry
            if at < stop:
                self._miss(Position(number, at), Position(number, stop))

    def _entries(self, number: int, start: int, stop: int) -> Iterator[Entry]:
        if start >= stop:
            return
        with self._mutex:
            # If its name was removed, only the descriptor still leads to what is in it.
            is_open = self._descriptor is not None and number == self._end.segment
            descriptor = os.dup(self._descriptor) if is_open and self._descriptor is not None else None
        try:
            if descriptor is None:
                descriptor = open_file(self.path / segment_name(number), os.O_RDONLY)
            yield from entries_between(descriptor, number, start, stop)
        except (FileNotFoundError, NotADirectoryError, UnsafeFile) as error:
            logger.debug("%s: a segment is gone: %s", self.path, error)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    def _miss(self, start: Position, stop: Position) -> None:
        """What was written between two positions, and was to be read, is not there."""
        with self._mutex:
            if stop <= self._acked:
                return  # delivered and removed meanwhile
            self.lost = start if self.lost is None else min(self.lost, start)
        warn_once(f"lost:{self.path}", "another program has removed or changed files of the journal %s: rows that had "
                  "not been delivered are lost", self.path)

    def take_delivery(self) -> bool:
        """Become the one that delivers; False while another process does. Needed before
        :meth:`acknowledge`."""
        try:
            if not self._courier_lock.acquire():
                return False
        except (FileNotFoundError, UnsafeFile):
            return True  # somebody has removed or replaced the files: nobody else can deliver from them
        # What another process has delivered takes up room that it may not free.
        self.acknowledge(read_acked(self.path))
        return True

    def leave_delivery(self) -> None:
        self._courier_lock.release()

    def acknowledge(self, position: Position) -> None:
        """All up to ``position`` has reached the backend; segments before it are removed.

        What a full disk keeps from being written down is sent again some time, which changes nothing.
        """
        with self._mutex:
            if position <= self._acked:
                return
            self._acked = position
            if not self._lock.held:
                return  # given up while a request was under way: it may be another's by now
            self._mend()
            try:
                self._note_acked()
            except OSError as error:
                logger.debug("%s: what was delivered can't be noted: %s", self.path, error)
            # Also if it could not be noted: this is what makes room on a full disk.
            self._remove_acked()

    def _remove_acked(self) -> None:
        """Remove the segments that are delivered."""
        try:
            for number in sorted(self._sizes):
                if number >= min(self._acked.segment, self._end.segment):
                    return
                self._carry(number)
                (self.path / segment_name(number)).unlink(missing_ok=True)
                del self._sizes[number]
                self._ends.pop(number, None)
        except OSError as error:
            logger.debug("%s: what was delivered can't be removed: %s", self.path, error)

    def _note_acked(self) -> None:
        if self._acked_descriptor is None:
            with contextlib.suppress(FileNotFoundError):  # somebody has removed the files
                self._acked_descriptor = open_file(self.path / "acked", os.O_WRONLY | os.O_CREAT)
        if self._acked_descriptor is not None:
            os.pwrite(self._acked_descriptor, encode_acked(self._acked), 0)
            if self.last_sign_of_life is not None:
                descriptor, self._acked_descriptor = self._acked_descriptor, None
                os.close(descriptor)  # many journals may be adopted at once

    def _carry(self, segment: int | None = None) -> None:
        """Write again what a recoverer must know of before the segment with it is removed; without one, all that
        earlier journals of this process may take with them."""
        records, spans = self.spans.up_to(sys.maxsize if segment is None else segment)
        if self.last_sign_of_life is not None and not spans:
            return  # no invocation of a dead process goes on
        entries = [self._encoded(Kind.INVOCATION, dump(record.to_row())) for record in records]
        entries += [
            self._encoded(Kind.IDENTITY, dump({**span.identity, "span_attributes": {"name": span.name}}))
            for span in spans
        ]
        if not entries:
            return
        self._write(entries)
        for record in records:
            self.spans.moved(record.root, self._end)
        for span in spans:
            span.position = self._end
        self._unbooked = None

    # Living and dying

    def touch(self) -> None:
        """Leave a sign of life, for the honest end of what this process leaves open if it is killed."""
        self._lock.touch()

    def rest(self) -> None:
        """Close the segment, as little or nothing will be written from now on. What is goes into a new one."""
        with self._mutex:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    @property
    def finished(self) -> bool:
        """True if all is delivered and no span is open: nobody will miss the journal."""
        if self.attachments is not None and not self.attachments.empty:
            return False
        return self._acked >= self._end and (self.handed_over or not self.spans.all_open())

    def close(self) -> None:
        """Stop writing. A journal that is finished is removed, any other is left for the next start."""
        with self._mutex:
            self._mend()
            if self._lock.held and self.finished:
                self._remove()
            self.abandon()

    def _remove(self) -> None:
        """Remove the files, first of all the name by which others would find half of them."""
        doomed = self.path.with_name(f".gone-{self.path.name}")
        with contextlib.suppress(OSError):
            os.rename(self.path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def abandon(self) -> None:
        """Close the files only: in a forked child, whose parent goes on with the journal."""
        for descriptor in (self._descriptor, self._acked_descriptor):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._descriptor = self._acked_descriptor = None
        if self.attachments is not None:
            self.attachments.abandon()
        self._courier_lock.release()
        self._lock.release()
