"""Counts the processes of this process's control group that the kernel killed for memory."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MemoryKills"]

_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


class MemoryKills:
    """Counts out-of-memory kills from the moment it is created.

    ``memory.events`` of cgroup version 2 includes descendant groups:
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files. ``memory.oom_control`` of version 1 has
    the counter since Linux 4.13.
    """

    def __init__(self) -> None:
        self._files = _counters()
        self._before = self._total()

    def since(self) -> int:
        """The number of kills since creation."""
        return self._total() - self._before

    def _total(self) -> int:
        return sum(map(_count, self._files))


def _counters() -> list[Path]:
    """The files that hold the counters; empty without control groups."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:
        return []
    counters = []
    for line in lines:
        # "0::/path" in version 2, "4:memory:/path" in version 1, cgroups(7)
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts, name = [_MOUNT, _MOUNT / "unified"], "memory.events"
        elif "memory" in controllers.split(","):
            mounts, name = [_MOUNT / "memory"], "memory.oom_control"
        else:
            continue
        # In a container the path may be the host's, while the group itself is mounted as the root.
        places = [mount / below / name for mount in mounts for below in (path.lstrip("/"), "")]
        counters += [place for place in places if place.exists()][:1]
    return counters


def _count(file: Path) -> int:
    try:
        words = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return 0  # the group is gone
    return next((int(word[1]) for word in words if word[:1] == ["oom_kill"] and word[1:]), 0)
