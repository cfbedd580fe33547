"""Opens only files and directories that belong to this user.

The files below ``TRACE_GUARD_DIR`` decide what is sent, and to which URL, so nothing is read or written that another
user could have put there. A file must be regular, belong to this user, and have no other hard link. A directory must
belong to this user, and nobody else may write to it. Links are never followed. Files of root are refused as well
unless this process runs as root.

Opening never blocks: a FIFO or device in place of a file is an error.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

__all__ = [
    "UnsafeFile", "check_directory", "check_file", "create_file", "has_directory", "is_own_file", "make_parents",
    "open_file", "own_directory", "read_file",
]

# Windows has none of these flags, and no numeric user ids.
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_SAFE = getattr(os, "O_CLOEXEC", 0) | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
# Windows would translate line ends without the first one, and has the second one for O_CLOEXEC.
_SAFE |= getattr(os, "O_BINARY", 0) | getattr(os, "O_NOINHERIT", 0)
_DIRECTORY = getattr(os, "O_DIRECTORY", 0)
_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_KINDS = {
    stat.S_IFLNK: "a symlink", stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFREG: "a file",
}


class UnsafeFile(OSError):
    """A file or directory that may be another user's. Nothing was read from it or written to it."""

    def __init__(self, path: str | os.PathLike[str], why: str) -> None:
        super().__init__(errno.EPERM, why, os.fspath(path))

    def __str__(self) -> str:
        return f"{self.filename} {self.strerror}"


def open_file(path: Path, flags: int) -> int:
    """Open a file of this user and return its descriptor. A new file is readable by its owner only.

    Raises:
        UnsafeFile: it is not a regular file, belongs to another user, or has another hard link.
        OSError: it can't be opened.
    """
    return _open(path, flags)


def create_file(path: Path) -> int:
    """Make a file for appending and return its descriptor.

    Raises:
        FileExistsError: the file exists.
    """
    # Also readable: if its name is removed, only the descriptor still leads to its content.
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | _SAFE, 0o600)


def read_file(path: Path, limit: int, *, private: bool = False) -> bytes:
    """The content of a file of this user.

    Args:
        limit: the most bytes; a larger file is refused.
        private: refuse a directory or file that others may write to. For files that decide where a key is sent.

    Raises:
        UnsafeFile: as in :func:`open_file`, or it is too large.
        OSError: it can't be read.
    """
    if private and _DIRECTORY:
        # Opened relative to the checked directory, which nobody can replace meanwhile.
        directory = _open(path.parent, os.O_RDONLY | _DIRECTORY, _fault_of_directory)
        try:
            if os.fstat(directory).st_mode & _BY_OTHERS:
                raise UnsafeFile(path.parent, "can be written by others")
            descriptor = _open(path, os.O_RDONLY, directory=directory)
        finally:
            os.close(directory)
    else:
        descriptor = open_file(path, os.O_RDONLY)
    with open(descriptor, "rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if private and _DIRECTORY and status.st_mode & _BY_OTHERS:
            raise UnsafeFile(path, "can be written by others")
        content = file.read(limit + 1) if status.st_size <= limit else None
        if content is None or len(content) > limit:
            raise UnsafeFile(path, f"has more than {limit} bytes")
        return content


def check_file(path: str | os.PathLike[str]) -> None:
    """Check that :func:`open_file` would open a file. Opens nothing.

    Raises:
        UnsafeFile: it would not.
        OSError: there is none, or it can't be examined.
    """
    fault = _fault(os.lstat(path))
    if fault is not None:
        raise UnsafeFile(path, fault)


def is_own_file(path: str | os.PathLike[str]) -> bool:
    """True if there is a file that :func:`open_file` would open."""
    try:
        return _fault(os.lstat(path)) is None
    except OSError:
        return False


def own_directory(path: Path) -> None:
    """Make a directory if there is none, and restrict it to this user.

    Raises:
        UnsafeFile: it is not a directory, belongs to another user, or can't be restricted.
        OSError: it can't be made or opened.
    """
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if stat.S_ISREG(os.lstat(path).st_mode):
            raise
    if not _DIRECTORY:
        check_directory(path)
        return
    descriptor = _open(path, os.O_RDONLY | _DIRECTORY, _fault_of_directory)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            os.fchmod(descriptor, 0o700)
            if os.fstat(descriptor).st_mode & _BY_OTHERS:
                raise UnsafeFile(path, "is on a file system where others can write to everything")
    finally:
        os.close(descriptor)


def check_directory(path: Path, *, closed: bool = False) -> None:
    """Check that a directory belongs to this user. Changes nothing.

    Args:
        closed: also refuse a directory that everybody can write to.

    Raises:
        UnsafeFile: it does not.
        OSError: there is none, or it can't be examined.
    """
    status = os.lstat(path)
    fault = _fault_of_directory(status)
    if fault is None and closed and hasattr(os, "geteuid") and status.st_mode & stat.S_IWOTH:
        fault = "can be written by everybody"
    if fault is not None:
        raise UnsafeFile(path, fault)


def has_directory(path: Path) -> bool:
    """True if there is a directory of this user, and not a link to one."""
    try:
        return _fault_of_directory(os.lstat(path)) is None
    except OSError:
        return False


def make_parents(path: Path) -> None:
    """Make the missing directories above a path. Only this user can write to them."""
    missing = []
    for parent in path.parents:
        if parent.exists():
            break
        missing.append(parent)
    for parent in reversed(missing):
        parent.mkdir(mode=0o755, exist_ok=True)


def _open(
    path: Path, flags: int, fault_of: Callable[[os.stat_result], str | None] | None = None,
    directory: int | None = None,
) -> int:
    """Open a file, or a directory with ``_fault_of_directory``; relative to the directory ``path.parent`` if given."""
    fault_of = fault_of or _fault
    try:
        descriptor = os.open(path if directory is None else path.name, flags | _SAFE, 0o600, dir_fd=directory)
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        # "Too many levels of symbolic links" and "No such device or address" don't say what is wrong.
        try:
            fault = fault_of(os.lstat(path))
        except OSError:
            fault = None
        if fault is None:
            raise
        raise UnsafeFile(path, fault) from error
    fault = fault_of(os.fstat(descriptor))
    if fault is not None:
        os.close(descriptor)
        raise UnsafeFile(path, fault)
    return descriptor


def _fault(status: os.stat_result) -> str | None:
    """Why a file is refused; None if it is not."""
    if not stat.S_ISREG(status.st_mode):
        return f"is {_kind(status)}, not a regular file"
    if status.st_nlink > 1:
        return "has another name elsewhere (it is a hard link)"
    return _fault_of_owner(status)


def _fault_of_directory(status: os.stat_result) -> str | None:
    if not stat.S_ISDIR(status.st_mode):
        return f"is {_kind(status)}, not a directory"
    return _fault_of_owner(status)


def _fault_of_owner(status: os.stat_result) -> str | None:
    if hasattr(os, "geteuid") and status.st_uid != os.geteuid():
        return f"belongs to user {status.st_uid}, not to this process's user {os.geteuid()}"
    return None


def _kind(status: os.stat_result) -> str:
    return _KINDS.get(stat.S_IFMT(status.st_mode), "of an unknown kind")
