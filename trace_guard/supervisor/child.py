"""Starts the command as it would start without a supervisor, and sends signals to it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import shutil
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from ..redaction.outside_text import printable
from ..settings import PARENT_VARIABLE
from .prctl import die_with_parent
from .signals import Signals

__all__ = ["NOT_EXECUTABLE", "Child", "close_command_streams", "execute", "initial_environment"]

NOT_EXECUTABLE = 126
NOT_FOUND = 127
# The command runs after this time even if the disk hangs.
_LONGEST_HOLD_SECONDS = 5.0


class Child:
    """A child process that becomes the command when it is released.

    The process is forked while the supervisor has no other thread. It is released once the first row of its trace is
    on disk.

    Attributes:
        pid: the id of the process, and of its process group if it has its own.
        shares_group: the command runs in the supervisor's process group. This is so if there is a terminal, which sends
            signals and input to one group only: pipelines, Ctrl-C and Ctrl-Z work as without a supervisor.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], added: Mapping[str, str], signals: Signals
    ) -> None:
        self.shares_group = _has_terminal()
        self._gate: int | None = None
        self._failure, failure = _pipe()
        gate, self._gate = _pipe()
        parent = os.getpid()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._gate)
                self._become(command, environment, dict(added), signals, parent, gate, failure)
            except BaseException as fault:  # noqa: BLE001 - the child must not run the parent's code
                _print_error(f"{command[0]}: {fault!r}")
            finally:
                os._exit(NOT_EXECUTABLE)
        os.close(gate)
        os.close(failure)
        if not self.shares_group:
            # Both processes set the group, as either may run first.
            with contextlib.suppress(OSError):
                os.setpgid(self.pid, self.pid)

    def release(self, parent: str | None) -> None:
        """Let the process become the command.

        Args:
            parent: the value of ``TRACE_GUARD_PARENT``; None to keep the current one.
        """
        gate, self._gate = self._gate, None
        if gate is not None:
            with contextlib.suppress(OSError):  # the process has ended, or has stopped waiting
                os.write(gate, (parent or "").encode())
            os.close(gate)

    def start_failure(self) -> str | None:
        """Why the process could not become the command; None if it did. Call this after the process has ended."""
        message = os.read(self._failure, 4096) if _is_ready(self._failure, 0) else b""
        return message.decode(errors="replace") or None

    def send(self, number: int) -> None:
        """Send a signal to the command's process group, or to the command alone if it shares the supervisor's group."""
        # The process or its group may be gone already.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            (os.kill if self.shares_group else os.killpg)(self.pid, number)

    # In the child

    def _become(
        self, command: Sequence[str], environment: Mapping[str, str], added: dict[str, str], signals: Signals,
        parent: int, gate: int, failure: int,
    ) -> NoReturn:
        if not self.shares_group:
            with contextlib.suppress(OSError):
                os.setpgid(0, 0)
        die_with_parent()
        if os.getppid() != parent:
            os._exit(128 + signal.SIGKILL)  # the parent ended before die_with_parent() took effect
        exported = _read_all(gate)
        if exported:
            added[PARENT_VARIABLE] = exported.decode()
        signals.restore()
        status, why = execute(command, environment, added)
        os.write(failure, why.encode())
        os._exit(status)


def execute(
    command: Sequence[str], environment: Mapping[str, str], added: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Replace this process with the command. If that fails, print why to stderr, and return a shell's exit code for
    the failure and its reason.

    Args:
        added: trace-guard's variables. The kernel limits the size of an environment, execve(2). If they don't fit, the
            command runs without them.
    """
    try:
        try:
            _execute(command, {**environment, **(added or {})})
        except OSError as error:
            if error.errno != errno.E2BIG or not added:
                raise
            _print_error(f"{command[0]}: the environment has no room for our variables; it starts a separate trace")
            _execute(command, environment)
    except OSError as error:
        is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        why = "command not found" if is_missing and "/" not in command[0] else os.strerror(error.errno or 0)
        _print_error(f"{command[0]}: {why}")
        return (NOT_FOUND if is_missing else NOT_EXECUTABLE), why


def _execute(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A file without `#!`: shells run it as a script.
    script = shutil.which(command[0], path=environment.get("PATH")) or command[0]
    os.execve("/bin/sh", ["/bin/sh", script, *command[1:]], environment)


def _print_error(message: str) -> None:
    with contextlib.suppress(OSError):  # stderr is closed
        os.write(2, f"trace-guard: {printable(message)}\n".encode(errors="backslashreplace"))


def _pipe() -> tuple[int, int]:
    """A pipe whose descriptors are above 2, even if stdin, stdout or stderr is closed."""
    ends = os.pipe()
    higher = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    for end in ends:
        os.close(end)
    return higher[0], higher[1]


def _read_all(gate: int) -> bytes:
    """Reads until the pipe is closed, or until nothing arrives for ``_LONGEST_HOLD_SECONDS``."""
    data = b""
    while _is_ready(gate, _LONGEST_HOLD_SECONDS):
        chunk = os.read(gate, 65536)
        if not chunk:
            break
        data += chunk
    return data


def _is_ready(descriptor: int, seconds: float) -> bool:
    """True once the descriptor can be read. ``poll`` also works for descriptors above 1023, ``select`` does not."""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def _has_terminal() -> bool:
    """True if this process has a controlling terminal."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def close_command_streams() -> None:
    """Close the supervisor's copies of the command's streams: readers of a pipe wait until every process has closed it.
    stderr stays open for messages."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    try:
        descriptors = [int(path.name) for path in Path("/dev/fd").iterdir()]
    except (OSError, ValueError):
        return
    for descriptor in descriptors:
        # Descriptors that Python opened are not inheritable.
        with contextlib.suppress(OSError):
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.close(descriptor)


def initial_environment() -> dict[str, str]:
    """The environment that this process was started with. Without a locale Python sets ``LC_CTYPE`` (PEP 538)."""
    environment = dict(os.environ)
    try:
        initial = Path("/proc/self/environ").read_bytes()
    except OSError:
        return environment
    if not any(entry.startswith(b"LC_CTYPE=") for entry in initial.split(b"\0")):
        environment.pop("LC_CTYPE", None)
    return environment
