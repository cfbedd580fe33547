"""One process's journal: the writing side, and what the courier needs of it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from ..contain import warn_once
from ..errors import JournalError
from ..open_spans import InvocationRecord, OpenSpans
from ..rows import Row, dump, has_ended, is_span_row, without_payload
from .directory import JOURNALS, Room
from .format import (
    ENTRY_OVERHEAD,
    FORMAT,
    MAGIC,
    Entry,
    Flag,
    Kind,
    Position,
    encode_acked,
    encode_entry,
    segment_name,
)
from .locks import FileLock
from .reader import read_acked, read_entries, read_header, segments

__all__ = ["FileJournal", "Journal", "NewRow"]

SEGMENT_BYTES = 4 * 1024 * 1024
_PAYLOAD_SHARE = 0.75
_SPANS_SHARE = 0.9
# How much may be written by others in the same directory before the total is looked up again.
_RECOUNT_BYTES = 1024 * 1024


class NewRow(NamedTuple):
    """A row to be written: as parsed, and as the bytes that are to be kept."""

    row: Row
    encoded: bytes
    flags: Flag = Flag.NONE

    @classmethod
    def of(cls, row: Row, flags: Flag = Flag.NONE) -> NewRow:
        return cls(row, dump(row), flags)


class Journal(Protocol):
    """What the guard and the courier need of a journal, be it in files or in memory."""

    durable: bool
    header: Mapping[str, Any]
    spans: OpenSpans

    @property
    def end(self) -> Position: ...
    @property
    def acked(self) -> Position: ...
    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position: ...
    def append(self, rows: Sequence[NewRow]) -> Position: ...
    def read(self, after: Position) -> Iterator[Entry]: ...
    def acknowledge(self, position: Position) -> None: ...
    def take_delivery(self) -> bool: ...
    def leave_delivery(self) -> None: ...
    def touch(self) -> None: ...
    def close(self) -> None: ...


class FileJournal:
    """A journal in files, whose writer lock this process holds.

    Attributes:
        path: the journal's own directory.
        header: the destination and the writer, as in the file ``header``.
        dropped_spans: how many spans the size cap has cost.
    """

    durable = True

    def __init__(self, path: Path, lock: FileLock, room: Room, spans: OpenSpans, *, sync: str = "os") -> None:
        self.path = path
        self.header: Mapping[str, Any] = read_header(path)
        self.spans = spans
        self.dropped_spans = 0
        self._lock = lock
        self._courier_lock = FileLock(path / "courier.lock")
        self._mutex = threading.RLock()
        self._room = room
        self._sync = sync == "always"
        self._segment_bytes = max(4096, min(SEGMENT_BYTES, room.max_bytes // 16))
        self._descriptor: int | None = None
        self._acked_descriptor: int | None = None
        self._acked = read_acked(path)
        numbers = segments(path)
        self._sizes = {number: (path / segment_name(number)).stat().st_size for number in numbers}
        self._others, self._uncounted = 0, _RECOUNT_BYTES
        last = max(numbers, default=0)
        self._end = Position(last, self._sizes.get(last, 0))

    @classmethod
    def create(
        cls, room: Room, destination: Mapping[str, Any], spans: OpenSpans, *, sync: str = "os"
    ) -> FileJournal:
        """Begin a new journal. It is complete and locked before it gets the name by which others find it.

        Raises:
            OSError: the disk won't have it.
            JournalError: the lock could not be taken.
        """
        name = f"{time.time_ns() // 1_000_000}-{os.getpid()}-{os.urandom(4).hex()}"
        parent = room.directory / JOURNALS
        hidden = parent / f".new-{name}"
        hidden.mkdir(mode=0o700)
        lock = FileLock(hidden / "lock")
        try:
            header = {"format": FORMAT, "created": time.time(), "pid": os.getpid(), **destination}
            _write_new(hidden / "header", dump(header))
            if not lock.acquire():
                raise JournalError(f"the lock of the new journal {hidden} could not be taken")
            os.rename(hidden, parent / name)
        except BaseException:
            lock.release()
            shutil.rmtree(hidden, ignore_errors=True)
            raise
        lock.moved_to(parent / name / "lock")
        return cls(parent / name, lock, room, spans, sync=sync)

    @classmethod
    def adopt(cls, path: Path, room: Room, *, sync: str = "os") -> FileJournal | None:
        """Take over the journal of a process that is gone; None if it is not, or if someone else was first.

        Its open spans are read off its entries.

        Raises:
            JournalError, OSError: it can't be read.
        """
        lock = FileLock(path / "lock")
        if not (path / "lock").exists():
            return None
        touched = (path / "lock").stat().st_mtime
        if not lock.acquire():
            return None
        try:
            journal = cls(path, lock, room, OpenSpans(), sync=sync)
            journal._replay(touched)
        except BaseException:
            lock.release()
            raise
        return journal

    last_sign_of_life = 0.0
    """For an adopted journal: the last moment at which its writer is known to have lived, seconds since the
    epoch. Never earlier than its last row."""

    def _replay(self, touched: float) -> None:
        alive = touched
        for entry in read_entries(self.path):
            alive = max(alive, entry.time)
            row = json.loads(entry.payload)
            if entry.kind == Kind.ROW:
                self.spans.observe(row, entry.end)
            elif entry.kind == Kind.IDENTITY:
                self.spans.carried(row, entry.end)
            elif entry.kind == Kind.INVOCATION:
                self.spans.begin(InvocationRecord.from_row(row), entry.end)
        self.last_sign_of_life = alive

    # Writing

    @property
    def end(self) -> Position:
        """The position behind the last entry."""
        return self._end

    @property
    def acked(self) -> Position:
        return self._acked

    @property
    def size(self) -> int:
        """Bytes that the segments take up."""
        return sum(self._sizes.values())

    def begin(self, record: InvocationRecord, rows: Sequence[NewRow]) -> Position:
        """Write that an invocation begins, with its first rows, in one go.

        Raises:
            OSError: the disk won't have it, or the journal's files were removed; nothing was written.
        """
        with self._mutex:
            os.stat(self._lock.path)  # a cleaner of temporary files may have been here
            self.spans.begin(record, Position(self._active(), 0))
            self._write([encode_entry(Kind.INVOCATION, dump(record.to_row())), *self._fitting(rows)])
            self._observe(rows)
            return self._end

    def append(self, rows: Sequence[NewRow]) -> Position:
        """Write rows in one go and read off what they open and close; the position behind them.

        Raises:
            OSError: the disk won't have it; nothing was written.
        """
        with self._mutex:
            encoded = self._fitting(rows)
            if encoded:
                self._write(encoded)
            self._observe(rows)
            return self._end

    def _observe(self, rows: Sequence[NewRow]) -> None:
        for new in rows:
            self.spans.observe(new.row, self._end)

    def _fitting(self, rows: Sequence[NewRow]) -> list[bytes]:
        """What of the rows the size cap lets in: payloads go first, then spans that have not begun, and never
        the end of one that has."""
        cap = self._room.max_bytes
        used = self.size + self._others
        kept = []
        for new in rows:
            encoded = new.encoded
            total = used + len(encoded) + ENTRY_OVERHEAD
            if total > cap * _PAYLOAD_SHARE and is_span_row(new.row):
                begun = self.spans.is_open(str(new.row.get("id")))
                if total > cap * _SPANS_SHARE and not begun:
                    self.dropped_spans += 1
                    warn_once("cap:spans", "the journal in %s is full (%d bytes): new spans are not recorded "
                              "until deliveries succeed again", self.path, cap)
                    continue
                if total > cap * _SPANS_SHARE and not has_ended(new.row):
                    continue
                warn_once("cap:payload", "the journal in %s nears its cap (%d bytes): inputs and outputs are "
                          "dropped until deliveries succeed again", self.path, cap)
                encoded = dump(without_payload(new.row))
            used += len(encoded) + ENTRY_OVERHEAD
            kept.append(encode_entry(Kind.ROW, encoded, new.flags))
        return kept

    def _write(self, entries: Sequence[bytes]) -> None:
        data = b"".join(entries)
        if self._end.segment == 0 or self._end.offset + len(data) > self._segment_bytes + len(MAGIC):
            self._next_segment()
        elif self._descriptor is None:
            self._next_segment()  # adopted: never behind a tail that may be torn
        assert self._descriptor is not None
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:] if written else data)
            if self._sync:
                os.fsync(self._descriptor)
        except OSError:
            # A part of it may have fitted; what can't be cut off is a torn tail, so never write behind it.
            descriptor = self._descriptor
            try:
                os.ftruncate(descriptor, self._end.offset)
            except OSError:
                self._descriptor = None
                os.close(descriptor)
            raise
        self._end = Position(self._end.segment, self._end.offset + len(data))
        self._sizes[self._end.segment] = self._end.offset
        self._recount(len(data))

    def _active(self) -> int:
        return max(1, self._end.segment)

    def _next_segment(self) -> None:
        number = max(self._end.segment, self._acked.segment) + 1
        descriptor = _create(self.path / segment_name(number))
        try:
            os.write(descriptor, MAGIC)
        except OSError:
            os.close(descriptor)
            raise
        if self._descriptor is not None:
            os.close(self._descriptor)
        self._descriptor = descriptor
        self._end = Position(number, len(MAGIC))
        self._sizes[number] = len(MAGIC)

    def _recount(self, written: int) -> None:
        """Look up now and then how much other processes keep in the directory that the cap is for."""
        self._uncounted += written
        if self._uncounted < min(_RECOUNT_BYTES, self._room.max_bytes // 16):
            return
        self._uncounted = 0
        self._others = sum(
            _size(file) for file in self.path.parent.glob("*/*.seg") if file.parent != self.path
        )

    # Delivering

    def read(self, after: Position) -> Iterator[Entry]:
        """The entries behind ``after`` that are written now."""
        with self._mutex:
            until = self._end
        return read_entries(self.path, after, until)

    def take_delivery(self) -> bool:
        """Become the one that delivers; False while another process does. Needed before
        :meth:`acknowledge`."""
        if not self._courier_lock.acquire():
            return False
        self._acked = max(self._acked, read_acked(self.path))
        return True

    def leave_delivery(self) -> None:
        self._courier_lock.release()

    def acknowledge(self, position: Position) -> None:
        """All up to ``position`` has reached the backend; segments before it are removed.

        Raises:
            OSError: it could not be written down; then some rows will be sent again, which changes nothing.
        """
        with self._mutex:
            if position <= self._acked:
                return
            self._acked = position
            if self._acked_descriptor is None:
                self._acked_descriptor = os.open(
                    self.path / "acked", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600
                )
            os.pwrite(self._acked_descriptor, encode_acked(position), 0)
            old = [number for number in self._sizes if number < min(position.segment, self._end.segment)]
            if old:
                self._carry(max(old))
                for number in old:
                    (self.path / segment_name(number)).unlink(missing_ok=True)
                    del self._sizes[number]

    def _carry(self, segment: int) -> None:
        """Write again what a recoverer must know of, before the segment with it is removed."""
        records, spans = self.spans.up_to(segment)
        entries = [encode_entry(Kind.INVOCATION, dump(record.to_row())) for record in records]
        entries += [
            encode_entry(Kind.IDENTITY, dump({**span.identity, "span_attributes": {"name": span.name}}))
            for span in spans
        ]
        if not entries:
            return
        self._write(entries)
        for record in records:
            self.spans.moved(record.root, self._end)
        for span in spans:
            span.position = self._end

    # Living and dying

    def touch(self) -> None:
        """Leave a sign of life, for the honest end of what this process leaves open if it is killed."""
        self._lock.touch()

    @property
    def finished(self) -> bool:
        """True if all is delivered and no span is open: nobody will miss the journal."""
        return self._acked >= self._end and not self.spans.all_open()

    def close(self) -> None:
        """Stop writing. A journal that is finished is removed, any other is left for the next start."""
        with self._mutex:
            if self._lock.held and self.finished:
                shutil.rmtree(self.path, ignore_errors=True)
            self.abandon()

    def abandon(self) -> None:
        """Close the files only: in a forked child, whose parent goes on with the journal."""
        for descriptor in (self._descriptor, self._acked_descriptor):
            if descriptor is not None:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._descriptor = self._acked_descriptor = None
        self._courier_lock.release()
        self._lock.release()


def _write_new(path: Path, data: bytes) -> None:
    descriptor = _create(path)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def _create(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
