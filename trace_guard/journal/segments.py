"""The segment files of one journal. One process appends to them; any process may read them.

Entries go into the last segment. A segment that is full is followed by a new one, and segments whose entries are
delivered are removed from the front. A segment that may have a torn tail is never appended to: a new one follows it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ..contain import logger
from .files import size_of, sync_directory
from .format import MAGIC, Entry, Position, segment_name
from .owned import UnsafeFile, create_file, open_file
from .reader import START, entries_between, read_entries, segments

__all__ = ["Segments"]

class Segments:
    """Writes, rotates, reads and removes segment files. Thread-safe.

    Args:
        directory: the journal's directory.
        segment_bytes: a segment that would grow beyond this many bytes is followed by a new one.
        sync: written entries survive a crash of the host.

    Attributes:
        end: the position behind the last whole entry.
    """

    def __init__(self, directory: Path, segment_bytes: int, *, sync: bool = False) -> None:
        self.end = START
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._sync = sync
        self._lock = threading.RLock()
        # The file that is appended to, if any, its name, device and inode.
        self._descriptor: int | None = None
        self._active = ""
        self._inode: tuple[int, int] | None = None
        self._sizes = self._measure()
        # Where the whole entries of each segment end, as far as this process has written or read them.
        self._ends: dict[int, int] = {}
        # The end before a write whose entries are not settled yet.
        self._unsettled: Position | None = None

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(self._sizes.values())

    @property
    def intact(self) -> bool:
        """False if another program has replaced, removed, cut or extended the segment that is appended to. Only the
        writer may ask."""
        if self._descriptor is None or self._unsettled is not None:
            return True
        try:
            found = os.lstat(self._active)
        except OSError:
            return False
        return found.st_size == self.end.offset and (found.st_dev, found.st_ino) == self._inode

    # Writing

    @property
    def settled_end(self) -> Position:
        """The position behind the last entry that is accounted for."""
        unsettled = self._unsettled
        return self.end if unsettled is None else unsettled

    @property
    def interrupted(self) -> bool:
        """True if an exception, such as one from a signal handler, has come between a write and :meth:`settle`."""
        return self._unsettled is not None

    def write(self, data: bytes) -> None:
        """Append encoded entries. Call :meth:`settle` once they are accounted for.

        Raises:
            OSError: they can't be written. Nothing of them will be read.
        """
        with self._lock:
            self._unsettled = self.end
            try:
                # After `rest` and `rewind` there is no descriptor: the last segment may have a torn tail.
                if self._descriptor is None or self.end.offset + len(data) > self._segment_bytes + len(MAGIC):
                    self._descriptor = self._next_segment()
                self._append(self._descriptor, data)
            except OSError:
                self._unsettled = None
                raise
            self._advance(Position(self.end.segment, self.end.offset + len(data)))

    def settle(self) -> None:
        """The entries of the last write are accounted for."""
        self._unsettled = None

    def rewind(self) -> None:
        """Return to the end before an interrupted write. :meth:`scan` finds the entries of it that are on disk."""
        with self._lock:
            self.rest()
            if self._unsettled is not None:
                self.end = self._unsettled
            self._sizes = self._measure()

    def rest(self) -> None:
        """Close the file that is appended to. The next write begins a new segment."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                with contextlib.suppress(OSError):  # a test's own file system is gone, and the descriptor with it
                    os.close(descriptor)

    def abandon(self) -> None:
        """Close the file in a forked child, where a thread of the parent may hold the lock for ever."""
        self._lock = threading.RLock()
        with contextlib.suppress(OSError):
            self.rest()

    def _append(self, descriptor: int, data: bytes) -> None:
        written = 0
        try:
            while written < len(data):
                written += os.write(descriptor, data[written:] if written else data)
            if self._sync:
                os.fsync(descriptor)
        except OSError:
            # A part may have been written. If it can't be cut off, it is a torn tail.
            try:
                os.ftruncate(descriptor, self.end.offset)
            except OSError:
                self.rest()
            raise

    def _next_segment(self) -> int:
        number = max(self.end.segment, *self._sizes, 0) + 1
        path = self._path(number)
        descriptor = create_file(path)
        try:
            if os.write(descriptor, MAGIC) < len(MAGIC):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            if self._sync:
                sync_directory(self._directory)
        except OSError:
            os.close(descriptor)
            path.unlink(missing_ok=True)
            raise
        self.rest()
        found = os.fstat(descriptor)
        self._active, self._inode = str(path), (found.st_dev, found.st_ino)
        self._advance(Position(number, len(MAGIC)))
        return descriptor

    def _advance(self, end: Position) -> None:
        self.end = end
        self._sizes[end.segment] = self._ends[end.segment] = end.offset

    # Reading

    def scan(self, acked: Position) -> Iterator[Entry]:
        """Read the entries behind ``end`` from disk, up to a torn tail, and move ``end`` along."""
        # In two steps, so that damage before the acknowledged position doesn't hide what follows it.
        before = read_entries(self._directory, self.end, acked)
        for entry in chain(before, read_entries(self._directory, max(self.end, acked))):
            self.end = entry.end
            self._ends[entry.end.segment] = entry.end.offset
            yield entry

    def ranges(self, after: Position) -> list[tuple[Position, Position]]:
        """Start and end of what is written behind ``after``, in each segment."""
        with self._lock:
            ends, until = sorted(self._ends.items()), self.end
        found = []
        for number, offset in ends:
            if after.segment <= number <= until.segment:
                start = max(len(MAGIC), after.offset if number == after.segment else 0)
                stop = until.offset if number == until.segment else offset
                if start < stop:
                    found.append((Position(number, start), Position(number, stop)))
        return found

    def read(self, start: Position, stop: Position) -> Iterator[Entry]:
        """The entries between two positions of one segment. They end early if another program has changed the file."""
        with self._lock:
            # If the file's name was removed, only the descriptor still leads to it.
            is_active = start.segment == self.end.segment and self._descriptor is not None
            descriptor = os.dup(self._descriptor) if is_active and self._descriptor is not None else None
        try:
            if descriptor is None:
                descriptor = open_file(self._path(start.segment), os.O_RDONLY)
            yield from entries_between(descriptor, start.segment, start.offset, stop.offset)
        except (FileNotFoundError, NotADirectoryError, UnsafeFile) as error:
            logger.debug("%s: a segment is gone: %s", self._directory, error)
        finally:
            if descriptor is not None:
                os.close(descriptor)

    # Removing

    def before(self, number: int) -> list[int]:
        """The segments before this one and before the one that is appended to, in order."""
        return [other for other in sorted(self._sizes) if other < min(number, self.end.segment)]

    def remove(self, number: int) -> None:
        """Remove a segment.

        Raises:
            OSError: it can't be removed.
        """
        self._path(number).unlink(missing_ok=True)
        del self._sizes[number]
        self._ends.pop(number, None)

    def _path(self, number: int) -> Path:
        return self._directory / segment_name(number)

    def _measure(self) -> dict[int, int]:
        return {number: size_of(self._path(number)) for number in segments(self._directory)}
