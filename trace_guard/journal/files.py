"""Files that are made once, for their owner only, and may have to outlive the host."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from .owned import create_file

__all__ = ["ATTACHMENTS", "bytes_of_journals", "is_small", "size_of", "sync_directory", "write_new"]

# Counting so many journals takes a few milliseconds. The bytes of more of them are estimated.
_COUNTED = 256
# One large journal among those that are counted says nothing about the rest: its share in the estimate is cut.
_TYPICAL_BYTES = 64 * 1024

ATTACHMENTS = "attachments"
"""The directory of attachments within a journal, and within trace-guard's directory where there is no server."""


def write_new(path: Path, data: bytes, *, sync: bool) -> None:
    """Make a file with this content, which outlives the host if ``sync``."""
    descriptor = create_file(path)
    try:
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if sync:
            os.fsync(descriptor)
            sync_directory(path.parent)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make the names in a directory outlive the host."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Bytes that a file takes up on the disk; 0 if there is none. A file with holes counts for what is in it."""
    try:
        return _size(os.lstat(path))
    except OSError:
        return 0


def bytes_of_journals(directory: Path, *, but: str) -> int:
    """Bytes of the segments and attachments of all journals in a directory but one. Others come and go meanwhile:
    what is not there any longer takes no room.

    Up to 256 journals are counted. Of more, an evenly spread sample is, and the rest is estimated, so that
    thousands of journals don't slow down the process that writes.
    """
    try:
        names = os.listdir(directory)
    except OSError:
        return 0
    sample = names[:: len(names) // _COUNTED + 1]
    sizes = [_bytes_in(os.path.join(directory, name)) for name in sample if name != but]
    typical = sum(min(size, _TYPICAL_BYTES) for size in sizes) // max(1, len(sizes))
    return sum(sizes) + typical * (len(names) - len(sample))


def is_small(directory: Path, *, most_bytes: int, most_journals: int) -> bool:
    """True if the journals in a directory are no more than so many, with no more bytes. Stops counting when it
    knows."""
    try:
        names = os.listdir(directory)
    except OSError:
        return True
    left = most_bytes
    for name in names[: most_journals + 1]:
        left -= _bytes_in(os.path.join(directory, name))
    return len(names) <= most_journals and left >= 0


def _bytes_in(directory: str) -> int:
    total = 0
    with contextlib.suppress(OSError), os.scandir(directory) as files:
        for file in files:
            if file.name.endswith((".seg", ".body", ".part")):
                total += _size(file.stat(follow_symlinks=False))
            elif file.name == ATTACHMENTS and file.is_dir(follow_symlinks=False):
                total += _bytes_in(file.path)
    return total


def _size(found: os.stat_result) -> int:
    if not stat.S_ISREG(found.st_mode):
        return 0
    blocks: int | None = getattr(found, "st_blocks", None)
    return found.st_size if blocks is None else min(found.st_size, blocks * 512)
