"""Files that are made once, for their owner only, and may have to outlive the host."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

__all__ = [
    "ATTACHMENTS", "bytes_of_journals", "bytes_of_segments", "create_file", "size_of", "sync_directory", "write_new",
]

ATTACHMENTS = "attachments"
"""The directory of attachments within a journal, and within trace-guard's directory where there is no server."""


def create_file(path: Path) -> int:
    """Make a file that is appended to; its descriptor.

    Raises:
        FileExistsError: there is one.
    """
    # Readable too: if its name is removed, only the descriptor still leads to what is in it.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o600)


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
    """Bytes of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def bytes_of_journals(directory: Path, *, but: str) -> int:
    """Bytes of the segments and attachments of all journals in a directory but one. Others come and go meanwhile:
    what is not there any longer takes no room."""
    total = 0
    with contextlib.suppress(OSError), os.scandir(directory) as journals:
        for journal in journals:
            if journal.name != but:
                total += _bytes_in(journal.path)
    return total


def bytes_of_segments(directory: Path) -> int:
    """Bytes of the segments of all journals in a directory."""
    total = 0
    for segment in directory.glob("*/*.seg"):
        with contextlib.suppress(OSError):
            total += segment.stat().st_size
    return total


def _bytes_in(directory: str) -> int:
    total = 0
    with contextlib.suppress(OSError), os.scandir(directory) as files:
        for file in files:
            if file.name.endswith((".seg", ".body", ".part")):
                total += file.stat().st_size
            elif file.name == ATTACHMENTS:
                total += _bytes_in(file.path)
    return total
