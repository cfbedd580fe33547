"""Finds the directory for journals: private to this user, on a file system with reliable locks."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from ..contain import warn_once
from ..errors import JournalError, JournalUnavailable
from .files import ATTACHMENTS, sync_directory, write_new
from .locks import MOVES_WITH_FILE, FileLock
from .owned import UnsafeFile, check_directory, make_parents, own_directory

__all__ = ["Description", "StateDir", "describe", "examine", "locate", "make_journal", "prepare"]

# Their advisory locks are emulated, optional, or lost when a server restarts.
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "afs", "beegfs", "fuse"}
_MEMORY = {"tmpfs", "ramfs"}
JOURNALS = "journals"
DEAD_LETTERS = "dead-letters"
CACHE = "cache"
STORE_NAME = "traces.db"
"""The file name of the local store in trace-guard's directory."""
DIRECTORIES = (JOURNALS, DEAD_LETTERS, CACHE, ATTACHMENTS)
NAMES = (*DIRECTORIES, STORE_NAME)
"""The prefixes of all names in trace-guard's directory."""


class StateDir(NamedTuple):
    """A directory that is ready for use, and the most bytes that journals may take in it."""

    directory: Path
    byte_limit: int


def prepare(directory: Path, byte_limit: int) -> StateDir:
    """Make and check the directory that :func:`locate` finds.

    Raises:
        JournalUnavailable: it can't be written, is a symlink, or belongs to another user, who could read or forge
            traces, or redirect the key.
    """
    kind = _filesystem(directory)
    located = _located(directory, kind)
    if _is_network(kind):
        warn_once(
            f"network:{directory}",
            "%s is on a network file system (%s), whose locks are unreliable. The journal is kept in %s; "
            "set TRACE_GUARD_DIR to a local disk",
            directory, kind, located,
        )
        kind = _filesystem(located)
    # On Cloud Run every path is in memory, whatever type the kernel reports:
    # https://cloud.google.com/run/docs/container-contract#filesystem
    if kind in _MEMORY or os.environ.get("K_SERVICE") or os.environ.get("CLOUD_RUN_JOB"):
        byte_limit = min(byte_limit, _memory() // 10)
    for path in (located, located / JOURNALS):
        try:
            make_parents(path)
            own_directory(path)
        except UnsafeFile as error:
            raise JournalUnavailable(f"{error}; set TRACE_GUARD_DIR to a directory of its own") from error
        except OSError as error:
            raise JournalUnavailable(f"{path} can't be made: {error.strerror}; set TRACE_GUARD_DIR") from error
        if not os.access(path, os.W_OK | os.X_OK):
            raise JournalUnavailable(f"{path} can't be written; set TRACE_GUARD_DIR to a directory that can")
    return StateDir(located, byte_limit)


def locate(directory: Path) -> Path:
    """The directory that is used for ``TRACE_GUARD_DIR``. Makes nothing.

    If other users share the directory, such as ``/tmp``, it is a subdirectory of this user's. If the directory is on a
    network file system, it is this user's subdirectory of the temporary directory.
    """
    return _located(directory, _filesystem(directory))


def _located(directory: Path, kind: str) -> Path:
    if _is_network(kind):
        return Path(tempfile.gettempdir()) / _own_name()
    return directory / _own_name() if _is_shared(directory) else directory


class Description(NamedTuple):
    """The place that is used for ``TRACE_GUARD_DIR``.

    Attributes:
        path: the directory itself, which need not exist.
        kind: the type of the file system at ``TRACE_GUARD_DIR``; empty if it is unknown.
        network: that is a network file system, so another directory is used.
        memory: the directory is kept in memory.
    """

    path: Path
    kind: str
    network: bool
    memory: bool


def describe(directory: Path) -> Description:
    """Describe the directory that is used for ``TRACE_GUARD_DIR``. Makes nothing."""
    kind, path = _filesystem(directory), locate(directory)
    return Description(path, kind, _is_network(kind), _filesystem(path) in _MEMORY)


def examine(directory: Path) -> Path | None:
    """The directory that is used for ``TRACE_GUARD_DIR``, for reading only; None if there is none yet.

    Raises:
        JournalUnavailable: it doesn't belong to this user alone.
    """
    located = locate(directory)
    try:
        for path in (located, located / JOURNALS):
            check_directory(path)
    except FileNotFoundError:
        return located if os.path.lexists(located) else None
    except OSError as error:
        raise JournalUnavailable(f"{error}; set TRACE_GUARD_DIR to a directory of its own") from error
    return located


def make_journal(state_dir: StateDir, header: bytes, *, sync: bool) -> tuple[Path, FileLock]:
    """Make the directory of a journal. It is complete and locked before it gets the name by which others find it.

    Args:
        sync: it survives a crash of the host.

    Raises:
        OSError: the disk doesn't take it.
        JournalError: its lock can't be taken.
    """
    name = f"{time.time_ns() // 1_000_000}-{os.getpid()}-{os.urandom(4).hex()}"
    parent = state_dir.directory / JOURNALS
    path = parent / name
    # Without a lock file, others take no notice of it.
    hidden = parent / f".new-{name}" if MOVES_WITH_FILE else path
    hidden.mkdir(mode=0o700)
    lock = FileLock(hidden / "lock")
    try:
        write_new(hidden / "header", header, sync=sync)
        if not lock.acquire():
            raise JournalError(f"the lock of the new journal {hidden} can't be taken")
        if hidden != path:
            os.rename(hidden, path)
        if sync:
            sync_directory(parent)
    except BaseException:
        lock.release()
        shutil.rmtree(hidden, ignore_errors=True)
        raise
    lock.moved_to(path / "lock")
    return path, lock


def _is_shared(directory: Path) -> bool:
    """True if other users make files in the directory. One of our own whose mode is too wide is not shared:
    :func:`prepare` narrows the mode."""
    try:
        status = os.lstat(directory)
        if not stat.S_ISDIR(status.st_mode) or not hasattr(os, "geteuid"):
            return False
        if not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return False
        if status.st_mode & stat.S_ISVTX or status.st_uid != os.geteuid():
            return True
        return any(not name.startswith((*NAMES, "extension.sock")) for name in os.listdir(directory))
    except OSError:
        return False


def _own_name() -> str:
    return f"trace-guard-{os.geteuid() if hasattr(os, 'geteuid') else 'user'}"


def _is_network(kind: str) -> bool:
    return kind.split(".")[0] in _NETWORK


def _filesystem(path: Path) -> str:
    """The type of the file system that holds ``path``; "" if unknown, as on systems other than Linux."""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    target, best, kind = os.path.abspath(path), "", ""
    for line in mounts.splitlines():
        # "36 35 98:0 /root /mount/point options - fstype source options", proc_pid_mountinfo(5)
        left, _, right = line.partition(" - ")
        words = left.split()
        if len(words) < 5 or not right:
            continue
        mount = words[4].replace("\\040", " ")
        if len(mount) >= len(best) and (target == mount or target.startswith(mount.rstrip("/") + "/")):
            best, kind = mount, right.split()[0]
    return kind


def _memory() -> int:
    """Bytes of memory that this process may use: the limit of the container, else of the machine."""
    limits = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=1 << 30)
