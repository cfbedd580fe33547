"""Makes files that survive a crash of the host, and counts the bytes of journals."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from .owned import create_file

__all__ = ["ATTACHMENTS", "bytes_of_journals", "is_small", "size_of", "sync_directory", "write_new"]

# Counting this many journals takes a few milliseconds. With more journals the total is an estimate.
_COUNTED = 256
# A single large journal in the sample must not dominate the estimate.
_TYPICAL_BYTES = 64 * 1024

ATTACHMENTS = "attachments"
"""The directory of attachments in a journal, and in trace-guard's directory for the local store."""


def write_new(path: Path, data: bytes, *, sync: bool) -> None:
    """Make a file with this content. With ``sync`` it survives a crash of the host."""
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
    """Make the names in a directory survive a crash of the host."""
    if not hasattr(os, "O_DIRECTORY"):
        return  # Windows can't open directories
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def size_of(path: Path) -> int:
    """Bytes that a file takes on disk; 0 if there is none. The holes of a sparse file don't count."""
    try:
        return _size(os.lstat(path))
    except OSError:
        return 0


def bytes_of_journals(directory: Path, *, but: str) -> int:
    """Bytes of the segments and attachments of all journals in a directory except one.

    Counts up to 256 journals. With more of them it counts an evenly spread sample and estimates the rest, so that
    thousands of journals don't slow down a writer.
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
    """True if the directory has at most this many journals with at most this many bytes."""
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


def _size(status: os.stat_result) -> int:
    if not stat.S_ISREG(status.st_mode):
        return 0
    blocks: int | None = getattr(status, "st_blocks", None)
    return status.st_size if blocks is None else min(status.st_size, blocks * 512)
