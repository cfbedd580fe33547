"""The signals that come to the supervisor: waited for one by one, never handled in the middle of something."""

from __future__ import annotations

import signal
from typing import NamedTuple

__all__ = ["Heard", "Signals", "name_of"]

_FAULTS = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS"}
# A write to a closed pipe is an error in Python; to stop for the terminal's sake is right for the supervisor too.
_LEFT_ALONE = {"SIGPIPE", "SIGXFSZ", "SIGTTIN", "SIGTTOU", "SIGKILL", "SIGSTOP"}
_BY_NAME = {one.name: one for one in signal.Signals}
HEARD = set(signal.valid_signals()) - {_BY_NAME[name] for name in _FAULTS | _LEFT_ALONE if name in _BY_NAME}
# What a terminal sends to everybody in the foreground.
_OF_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH}


class Heard(NamedTuple):
    """A signal that has come.

    Attributes:
        from_kernel: it is the terminal's, which has sent it to the whole process group, or the kernel's own.
    """

    number: int
    from_kernel: bool


class Signals:
    """Holds back every signal that a command may be sent, from here on, in this thread and all that it starts."""

    def __init__(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        # If whoever has started us ignores it, the kernel forgets how children have ended.
        self._of_children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.ignores_termination = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN

    def next(self, seconds: float | None) -> Heard | None:
        """The next signal; None if none comes for so many seconds."""
        if hasattr(signal, "sigtimedwait"):
            found = signal.sigwaitinfo(HEARD) if seconds is None else signal.sigtimedwait(HEARD, max(0.0, seconds))
            # SI_USER and its kind, which say that a process has sent it, are 0 and below.
            return None if found is None else Heard(found.si_signo, found.si_code > 0)
        return _next_by_alarm(seconds)

    def leave(self) -> None:
        """In a child that is about to become another program: everything as it was when Python had not yet started.

        What Python ignores for itself would stay ignored, and ``yes | head`` would never end.
        """
        for name in ("SIGPIPE", "SIGXFSZ"):
            if name in _BY_NAME:
                signal.signal(_BY_NAME[name], signal.SIG_DFL)
        if callable(signal.getsignal(signal.SIGINT)):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, self._of_children)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def _next_by_alarm(seconds: float | None) -> Heard | None:
    """For macOS, which has no ``sigtimedwait``: its alarm ends the wait, and so is not passed on to the command."""
    signal.setitimer(signal.ITIMER_REAL, 0.0 if seconds is None else max(seconds, 0.001))
    number = signal.sigwait(HEARD)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    return None if number == signal.SIGALRM else Heard(number, number in _OF_TERMINAL)


def name_of(number: int) -> str:
    """``SIGKILL``, or ``signal 40`` for one without a name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
