"""Advisory file locks. The system releases a lock when its process ends, whatever the cause.

``flock`` belongs to the open file, and a forked child shares it with its parent. A child therefore only closes its
descriptor. An unlock in the child would release the parent's lock.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .owned import open_file

__all__ = ["MOVES_WITH_FILE", "FileLock"]

# MOVES_WITH_FILE is false where a locked file, and a directory that has one, can't be renamed or removed.
try:
    import fcntl
except ImportError:  # Windows, for local development
    MOVES_WITH_FILE = False

    def _acquire(descriptor: int) -> bool:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True

else:
    MOVES_WITH_FILE = True

    def _acquire(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FileLock:
    """An exclusive lock on one file. Taking it never waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock. False if another process has it, or if the file is removed meanwhile.

        Raises:
            UnsafeFile: the path is not a file of this user.
            OSError: the file can't be opened.
        """
        if self._descriptor is not None:
            return True
        descriptor = open_file(self.path, os.O_RDWR | os.O_CREAT)
        if _acquire(descriptor) and _is_still(self.path, descriptor):
            self._descriptor = descriptor
            return True
        os.close(descriptor)
        return False

    def release(self) -> None:
        """Release the lock by closing its file. In a forked child this leaves the parent's lock alone."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def touch(self) -> None:
        """Set the times of the file to now. A recovery reads them as a sign of life."""
        if self._descriptor is not None:
            os.utime(self._descriptor if os.utime in os.supports_fd else self.path)

    def moved_to(self, path: Path) -> None:
        """The file was renamed. The lock stays held."""
        self.path = path


def _is_still(path: Path, descriptor: int) -> bool:
    """False if the process that had the lock before has removed the file: the lock would protect nothing."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
