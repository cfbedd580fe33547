"""How a process ended, as a shell and a trace describe it."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from ..outcome import Outcome
from .prctl import leave_no_core
from .signals import name_of

__all__ = ["ExitStatus", "exit_like"]

OUT_OF_MEMORY = "oom"


class ExitStatus(NamedTuple):
    """How a process ended.

    Attributes:
        at: when the supervisor saw it, in seconds since the epoch.
        code: the exit code, if the process exited.
        signal: the signal that killed the process, if one did.
        ignored_signal: the name of the signal that asked the process to end, if it was killed because it did not end
            in time.
        failure: why the process could not be started, if it could not.
        out_of_memory: the kernel killed a process of the control group for memory in the meantime.
    """

    at: float
    code: int | None = None
    signal: int | None = None
    ignored_signal: str | None = None
    failure: str | None = None
    out_of_memory: bool = False

    @classmethod
    def of(cls, status: int, at: float) -> ExitStatus:
        """Reads the status that ``waitpid`` returns."""
        if os.WIFSIGNALED(status):
            return cls(at, signal=os.WTERMSIG(status))
        return cls(at, code=os.WEXITSTATUS(status))

    @property
    def shell_code(self) -> int:
        """The exit code that a shell reports, 0 to 255: 128 plus the signal's number for a killed process."""
        return self.code if self.code is not None else 128 + (self.signal or 0)

    @property
    def killing_signal(self) -> int | None:
        """The signal that killed the process, or the command that the process ran if its exit code says so, as a
        shell's does: 137 for SIGKILL."""
        if self.signal is not None:
            return self.signal
        number = (self.code or 0) - 128
        return number if number in set(signal.Signals) else None

    @property
    def reason(self) -> str:
        """The cause in one word."""
        if self.ignored_signal is not None:
            return self.ignored_signal
        if self.killing_signal is None:
            return "exit"
        return OUT_OF_MEMORY if self._was_out_of_memory else name_of(self.killing_signal)

    @property
    def description(self) -> str:
        """The cause in a phrase."""
        if self.failure is not None:
            return f"the command could not be started: {self.failure}"
        memory = " (out of memory)" if self._was_out_of_memory else ""
        if self.ignored_signal is not None:
            return f"killed by SIGKILL, as it did not end in time after {self.ignored_signal}"
        if self.signal is not None:
            return f"killed by {name_of(self.signal)}{memory}"
        if self.killing_signal is not None:
            return f"exit status {self.code}, as of {name_of(self.killing_signal)}{memory}"
        return f"exit status {self.code}"

    @property
    def _was_out_of_memory(self) -> bool:
        return self.out_of_memory and self.killing_signal == signal.SIGKILL and self.ignored_signal is None

    def outcome(self, *, terminated: bool) -> Outcome:
        """The outcome of the command.

        Args:
            terminated: the supervisor was asked to end the command.
        """
        if self.code == 0:
            return Outcome.OK
        if self.signal is not None or (terminated and self.killing_signal is not None):
            return Outcome.TERMINATED
        return Outcome.ERROR


def exit_like(exit_status: ExitStatus) -> int:
    """Kill this process with the signal that killed the command, or return the command's exit code.

    PID 1 can't kill itself with a signal, so there the exit code of a shell is returned.
    """
    number = exit_status.signal
    if number is not None:
        leave_no_core()  # the command has left its own
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    return exit_status.shell_code
