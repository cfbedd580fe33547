"""What the kernel counts of processes that it has killed for memory, in the control group of this process."""

from __future__ import annotations

from pathlib import Path

__all__ = ["MemoryKills"]

_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


class MemoryKills:
    """Counts from where it is made.

    ``memory.events`` of version 2 counts what is below too:
    https://docs.kernel.org/admin-guide/cgroup-v2.html#memory-interface-files; ``memory.oom_control`` of version 1 has
    its counter since Linux 4.13.
    """

    def __init__(self) -> None:
        self._files = _counters()
        self._before = self._total()

    def since(self) -> int:
        """How many there were."""
        return self._total() - self._before

    def _total(self) -> int:
        return sum(map(_count, self._files))


def _counters() -> list[Path]:
    """The files with the counters; none where there are no control groups."""
    try:
        lines = _GROUPS.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        # "0::/path" in version 2, "4:memory:/path" in version 1, cgroups(7)
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mounts, name = [_MOUNT, _MOUNT / "unified"], "memory.events"
        elif "memory" in controllers.split(","):
            mounts, name = [_MOUNT / "memory"], "memory.oom_control"
        else:
            continue
        # In a container the group that the path names as the host does may be mounted as the root.
        places = [mount / below / name for mount in mounts for below in (path.lstrip("/"), "")]
        found += [place for place in places if place.exists()][:1]
    return found


def _count(file: Path) -> int:
    try:
        words = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return 0  # the group is gone
    return next((int(word[1]) for word in words if word[:1] == ["oom_kill"] and word[1:]), 0)
