"""How a command has ended, in the words of the shell, of the trace and of the process that repeats it."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from ..outcome import Outcome
from .prctl import leave_no_core
from .signals import name_of

__all__ = ["End", "repeat"]

OUT_OF_MEMORY = "oom"


class End(NamedTuple):
    """What is known of the end of a process.

    Attributes:
        at: when it was seen, in seconds since the epoch.
        code: its exit status, if it has exited.
        signal: what has killed it, if something has.
        asked_by: the name of the signal that had asked it to end, if it was killed as it did not in time.
        failure: why it could not be started, if it could not.
        out_of_memory: the kernel has killed somebody for memory, meanwhile, in its control group.
    """

    at: float
    code: int | None = None
    signal: int | None = None
    asked_by: str | None = None
    failure: str | None = None
    out_of_memory: bool = False

    @classmethod
    def of(cls, status: int, at: float) -> End:
        """From what ``waitpid`` says."""
        if os.WIFSIGNALED(status):
            return cls(at, signal=os.WTERMSIG(status))
        return cls(at, code=os.WEXITSTATUS(status))

    @property
    def status(self) -> int:
        """As a shell sees it: 0 to 255, 128 and the signal's number if one has killed it."""
        return self.code if self.code is not None else 128 + (self.signal or 0)

    @property
    def told(self) -> int | None:
        """The signal that has killed it, or that by its exit status, as shells say it, has killed its own command."""
        if self.signal is not None:
            return self.signal
        number = (self.code or 0) - 128
        return number if number in set(signal.Signals) else None

    @property
    def reason(self) -> str:
        """In one word."""
        if self.asked_by is not None:
            return self.asked_by
        if self.told is None:
            return "exit"
        return OUT_OF_MEMORY if self._was_out_of_memory else name_of(self.told)

    @property
    def words(self) -> str:
        """In some more."""
        if self.failure is not None:
            return f"the command could not be started: {self.failure}"
        memory = " (out of memory)" if self._was_out_of_memory else ""
        if self.asked_by is not None:
            return f"killed by SIGKILL, as it did not end in time after {self.asked_by}"
        if self.signal is not None:
            return f"killed by {name_of(self.signal)}{memory}"
        if self.told is not None:
            return f"exit status {self.code}, as of {name_of(self.told)}{memory}"
        return f"exit status {self.code}"

    @property
    def _was_out_of_memory(self) -> bool:
        return self.out_of_memory and self.told == signal.SIGKILL and self.asked_by is None

    def outcome(self, *, terminated: bool) -> Outcome:
        """Of the command; ``terminated``: it had been asked to end."""
        if self.code == 0:
            return Outcome.OK
        if self.signal is not None or (terminated and self.told is not None):
            return Outcome.TERMINATED
        return Outcome.ERROR


def repeat(end: End) -> int:
    """End as the command has, by the same signal; returns the exit status if that is how, or if this is PID 1, which
    no signal of its own kills."""
    if end.signal is not None:
        leave_no_core()  # the command has left its own
        if end.signal not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(end.signal, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {end.signal})
        os.kill(os.getpid(), end.signal)
    return end.status
