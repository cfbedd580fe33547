"""The command as a process: started as it would be without a supervisor, and told what the supervisor is told."""

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

__all__ = ["NOT_EXECUTABLE", "Child", "environment_of_command", "execute", "let_go_of_streams"]

NOT_EXECUTABLE = 126
NOT_FOUND = 127
# A disk that hangs must not keep the command from running.
_LONGEST_HOLD_SECONDS = 5.0


class Child:
    """A process that waits to become the command.

    It is forked before this one has any thread, and held until the first row of its trace is on disk.

    Attributes:
        pid: of the process, and of its process group if it has one of its own.
        shares_group: there is a terminal, whose signals and input are for one group: the command stays in ours, where
            it has them, and pipelines, Ctrl-C and Ctrl-Z are as ever.
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
            except BaseException as fault:  # noqa: BLE001 - the code of the parent is not to be run twice
                _say(f"{command[0]}: {fault!r}")
            finally:
                os._exit(NOT_EXECUTABLE)
        os.close(gate)
        os.close(failure)
        if not self.shares_group:
            # In both, as it is not known which of them comes first.
            with contextlib.suppress(OSError):
                os.setpgid(self.pid, self.pid)

    def release(self, parent: str | None) -> None:
        """Let it become the command.

        Args:
            parent: what is to stand in ``TRACE_GUARD_PARENT``; None to leave that as it is.
        """
        gate, self._gate = self._gate, None
        if gate is not None:
            with contextlib.suppress(OSError):  # it has ended, or has waited for too long
                os.write(gate, (parent or "").encode())
            os.close(gate)

    def failure(self) -> str | None:
        """Why it could not become the command, to be asked after its end; None if it did."""
        said = os.read(self._failure, 4096) if _is_ready(self._failure, 0) else b""
        return said.decode(errors="replace") or None

    def send(self, number: int) -> None:
        """Pass a signal on, to all of its group, or where that is ours to the command alone."""
        # A group is there for as long as one of it is; a process that is gone is no fault.
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
            os._exit(128 + signal.SIGKILL)  # it was gone before that was said
        given = _read_all(gate)
        if given:
            added[PARENT_VARIABLE] = given.decode()
        signals.leave()
        status, why = execute(command, environment, added)
        os.write(failure, why.encode())
        os._exit(status)


def execute(
    command: Sequence[str], environment: Mapping[str, str], added: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Become the command. If that can't be it is said on stderr; the exit status that shells have for that, and why.

    Args:
        added: variables of ours. The kernel has bounds for an environment, execve(2): where there is no room for
            them, the command runs without.
    """
    try:
        try:
            _execute(command, {**environment, **(added or {})})
        except OSError as error:
            if error.errno != errno.E2BIG or not added:
                raise
            _say(f"{command[0]}: its environment has no room for our variables, so that it begins a trace of its own")
            _execute(command, environment)
    except OSError as error:
        is_missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        why = "command not found" if is_missing and "/" not in command[0] else os.strerror(error.errno or 0)
        _say(f"{command[0]}: {why}")
        return (NOT_FOUND if is_missing else NOT_EXECUTABLE), why


def _execute(command: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # As shells do with what has no `#!`.
    script = shutil.which(command[0], path=environment.get("PATH")) or command[0]
    os.execve("/bin/sh", ["/bin/sh", script, *command[1:]], environment)


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # stderr is closed
        os.write(2, f"trace-guard: {printable(message)}\n".encode(errors="backslashreplace"))


def _pipe() -> tuple[int, int]:
    """A pipe whose ends are not taken for stdin, stdout or stderr where one of those is closed."""
    ends = os.pipe()
    higher = tuple(fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 3) for end in ends)
    for end in ends:
        os.close(end)
    return higher[0], higher[1]


def _read_all(gate: int) -> bytes:
    """What is written to it until it is closed; what there is by then if that takes too long."""
    data = b""
    while _is_ready(gate, _LONGEST_HOLD_SECONDS):
        chunk = os.read(gate, 65536)
        if not chunk:
            break
        data += chunk
    return data


def _is_ready(descriptor: int, seconds: float) -> bool:
    """True once it can be read. ``select`` could not wait for one above 1023, where a program is given many."""
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


def let_go_of_streams() -> None:
    """Close all that only the command is to hold: whoever reads its output, or writes its input, waits for the end of
    the last process that has it. Messages still go to stderr."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(nothing, descriptor)
    os.close(nothing)
    try:
        open_ones = [int(one.name) for one in Path("/dev/fd").iterdir()]
    except (OSError, ValueError):
        return
    for descriptor in open_ones:
        # What Python opens is not inheritable.
        with contextlib.suppress(OSError):
            if descriptor > 2 and os.get_inheritable(descriptor):
                os.close(descriptor)


def environment_of_command() -> dict[str, str]:
    """What this process was started with; Python sets ``LC_CTYPE`` for itself where there is no locale (PEP 538)."""
    environment = dict(os.environ)
    try:
        given = Path("/proc/self/environ").read_bytes()
    except OSError:
        return environment
    if not any(one.startswith(b"LC_CTYPE=") for one in given.split(b"\0")):
        environment.pop("LC_CTYPE", None)
    return environment
