"""A server with all of its workers: its processes and whether they run. Linux only."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .freezable_process import FreezableProcess

__all__ = ["ServerProcess", "Termination"]

_GONE = {"Z", "X"}
_STOPPED = {"T", "t", *_GONE}
_WAKING = {"T", "t", "R"}
_WAKEUP_SECONDS = 0.5
_WHILE = 10.0
"""Seconds that the kernel may take to stop or to end a process; far more than it needs."""


@dataclass(frozen=True)
class Termination:
    """How a server ended.

    Attributes:
        exit_status: of its first process, negative for a signal.
        seconds: from SIGTERM to the end.
        killed: True if the grace was over and SIGKILL was needed.
    """

    exit_status: int
    seconds: float
    killed: bool


class ServerProcess(FreezableProcess):
    """A server whose first process leads a process group: gunicorn's arbiter with its workers, or uvicorn alone.

    A process that leaves the group is not tracked.
    """

    @property
    def pids(self) -> list[int]:
        """The living processes of the group, the first process first."""
        return sorted(dict(_living_members(self.pid)), key=lambda pid: (pid != self.pid, pid))

    @property
    def stopped(self) -> bool:
        """True if every thread of every process of the group is stopped."""
        # A fork or a new thread that is in progress at the stop still completes, and stops a moment later than its
        # parent. So a second look is needed once all are stopped.
        members = dict(_living_members(self.pid))
        return bool(members) and _all_stopped(members) and dict(_living_members(self.pid)) == members

    def terminate_politely(self, grace: float) -> Termination:
        """Send SIGTERM to the first process, as for a container, and SIGKILL to all after ``grace`` seconds."""
        self._await_wakeup()
        asked_at = time.monotonic()
        with self._signalling:
            if self.exit_status is None:
                os.kill(self.pid, signal.SIGTERM)
        killed = not self.wait(grace)
        self.kill()
        assert self.exit_status is not None
        assert self.ended_at is not None
        return Termination(self.exit_status, max(0.0, self.ended_at - asked_at), killed)

    def _await_wakeup(self) -> None:
        """Wait until the main threads have run since SIGCONT, unless they are busy.

        Before that the kernel gives the next signal to another thread. If that is not Python's, the main thread sleeps
        on, and no handler of Python's runs: https://docs.python.org/3/library/signal.html#execution-of-python-signal-handlers
        """
        limit = time.monotonic() + _WAKEUP_SECONDS
        while time.monotonic() < limit and any(
            threads.get(str(pid)) in _WAKING for pid, threads in _living_members(self.pid)
        ):
            time.sleep(0.001)

    def kill(self) -> None:
        """End the whole group, even a stopped one, and wait until all of it is gone."""
        super().kill()
        limit = time.monotonic() + _WHILE
        while pids := self.pids:
            if time.monotonic() > limit:
                raise RuntimeError(f"processes {pids} do not end")
            time.sleep(0.001)


def _all_stopped(members: Mapping[int, Mapping[str, str]]) -> bool:
    return all(state in _STOPPED for threads in members.values() for state in threads.values())


def _living_members(group: int) -> Iterator[tuple[int, dict[str, str]]]:
    """The living processes of a group, each with the states of its threads."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(ProcessLookupError):  # It has ended.
                if os.getpgid(int(name)) == group:
                    threads = _threads(int(name))
                    # Checked for every thread, as the first may end before the others.
                    if set(threads.values()) - _GONE:
                        yield int(name), threads


def _threads(pid: int) -> dict[str, str]:
    tasks = f"/proc/{pid}/task"
    try:
        return {thread: _state(f"{tasks}/{thread}") for thread in os.listdir(tasks)}
    except (FileNotFoundError, ProcessLookupError):
        return {}


def _state(directory: str) -> str:
    """The state letter of https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html."""
    try:
        with open(f"{directory}/stat") as stat:
            # The name before the state may contain spaces and brackets.
            return stat.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"
