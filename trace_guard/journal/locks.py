"""Advisory locks on files: held until released or until the process is gone, however it went.

``flock`` belongs to the open file, not to the process: a child of ``fork`` shares it. So a child only ever
closes its copy; unlocking there would free the parent's lock too.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from .owned import open_file

__all__ = ["FileLock"]

try:
    import fcntl
except ImportError:  # Windows, for local development

    def _acquire(descriptor: int) -> bool:
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined,unused-ignore]
        except OSError:
            return False
        return True

else:

    def _acquire(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


class FileLock:
    """An exclusive lock on one file, taken without waiting."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = None

    @property
    def held(self) -> bool:
        return self._descriptor is not None

    def acquire(self) -> bool:
        """Take the lock; False if somebody else has it, or if the file went away meanwhile.

        Raises:
            UnsafeFile: what stands there is not a file of this user's.
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
        """Let go of the lock by closing its file. Also right for the copy that a forked child inherited."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def touch(self) -> None:
        """Set the file's times to now: the sign of life that a recoverer reads."""
        if self._descriptor is not None:
            os.utime(self._descriptor)

    def moved_to(self, path: Path) -> None:
        """The file has a new path; the lock stays held."""
        self.path = path


def _is_still(path: Path, descriptor: int) -> bool:
    """Whoever had the lock before us may have removed the file: then we hold a lock on nothing."""
    try:
        there = os.lstat(path)
    except FileNotFoundError:
        return False
    ours = os.fstat(descriptor)
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)
