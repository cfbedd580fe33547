"""Where journals may live: a directory that is ours alone, on a disk whose locks can be relied on."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

from ..contain import warn_once
from ..errors import JournalUnavailable

__all__ = ["StateDir", "prepare"]

# Their advisory locks are emulated, optional or lost when a server restarts.
_NETWORK = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "lustre", "afs", "beegfs", "fuse"}
_MEMORY = {"tmpfs", "ramfs"}
JOURNALS = "journals"
DEAD_LETTERS = "dead-letters"


class StateDir(NamedTuple):
    """A directory that can be used, and the most bytes that journals may take there."""

    directory: Path
    byte_limit: int


def prepare(directory: Path, byte_limit: int) -> StateDir:
    """Make and check the directory of trace-guard.

    Raises:
        JournalUnavailable: it can't be written, is a symlink, or belongs to somebody else. A directory in a
            shared place such as ``/tmp`` could otherwise be laid out by another user to read or forge traces.
    """
    kind = _filesystem(directory)
    if kind.split(".")[0] in _NETWORK:
        local = Path(tempfile.gettempdir()) / f"trace-guard-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
        warn_once(
            f"network:{directory}",
            "%s is on a network file system (%s), whose locks are unreliable: the journal is kept in %s; "
            "set TRACE_GUARD_DIR to a local disk",
            directory, kind, local,
        )
        directory, kind = local, _filesystem(local)
    # On Cloud Run every path is in memory, whatever the kernel calls it:
    # https://cloud.google.com/run/docs/container-contract#filesystem
    if kind in _MEMORY or os.environ.get("K_SERVICE") or os.environ.get("CLOUD_RUN_JOB"):
        byte_limit = min(byte_limit, _memory() // 10)
    for path in (directory, directory / JOURNALS):
        _own(path)
    return StateDir(directory, byte_limit)


def _own(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(path)
    except OSError as error:
        raise JournalUnavailable(f"{path} can't be made: {error.strerror}; set TRACE_GUARD_DIR") from error
    if not stat.S_ISDIR(found.st_mode):
        kind = "a symlink" if stat.S_ISLNK(found.st_mode) else "not a directory"
        raise JournalUnavailable(f"{path} is {kind}; set TRACE_GUARD_DIR to a directory of its own")
    if hasattr(os, "geteuid"):
        if found.st_uid != os.geteuid():
            raise JournalUnavailable(
                f"{path} belongs to user {found.st_uid}, not to this process's user {os.geteuid()}; "
                "set TRACE_GUARD_DIR to a directory of its own"
            )
        # One like /tmp is everybody's, and stays so: what we make in it is ours alone.
        if stat.S_IMODE(found.st_mode) & 0o077 and not found.st_mode & stat.S_ISVTX:
            os.chmod(path, 0o700)
    if not os.access(path, os.W_OK | os.X_OK):
        raise JournalUnavailable(f"{path} can't be written; set TRACE_GUARD_DIR to a directory that can")


def _filesystem(path: Path) -> str:
    """The type of the file system that holds ``path``, or "" where it can't be told (not Linux)."""
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
    """Bytes of memory that this process may use: the container's limit, else the machine's."""
    limits = []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue
    if sys.platform != "win32":
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min(limits, default=1 << 30)
