"""Blocks the supervisor's signals and waits for them one at a time, so that no handler interrupts other code."""

from __future__ import annotations

import signal
from typing import NamedTuple

__all__ = ["ReceivedSignal", "Signals", "name_of"]

_FAULTS = {"SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS"}
# Python turns a write to a closed pipe into an error. A stop by the terminal must also stop the supervisor.
_LEFT_ALONE = {"SIGPIPE", "SIGXFSZ", "SIGTTIN", "SIGTTOU", "SIGKILL", "SIGSTOP"}
_BY_NAME = {number.name: number for number in signal.Signals}
HANDLED = set(signal.valid_signals()) - {_BY_NAME[name] for name in _FAULTS | _LEFT_ALONE if name in _BY_NAME}
# The signals that a terminal sends to the foreground process group.
_OF_TERMINAL = {signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGWINCH}


class ReceivedSignal(NamedTuple):
    """A signal that was received.

    Attributes:
        from_kernel: the kernel or the terminal sent it. The terminal sends to the whole process group.
    """

    number: int
    from_kernel: bool


class Signals:
    """Blocks every signal that may concern a command, in this thread and in all threads that it starts."""

    def __init__(self) -> None:
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED)
        # While SIGCHLD is ignored, the kernel discards the exit status of children.
        self._child_handler = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        self.ignores_termination = signal.getsignal(signal.SIGTERM) == signal.SIG_IGN

    def wait(self, seconds: float | None) -> ReceivedSignal | None:
        """The next signal; None if none is received within this many seconds."""
        if hasattr(signal, "sigtimedwait"):
            info = signal.sigwaitinfo(HANDLED) if seconds is None else signal.sigtimedwait(HANDLED, max(0.0, seconds))
            # Codes of signals that a process sent, such as SI_USER, are 0 or negative.
            return None if info is None else ReceivedSignal(info.si_signo, info.si_code > 0)
        return _next_by_alarm(seconds)

    def restore(self) -> None:
        """Restore the signal handling that this process was started with. For a child that is about to run ``exec``.

        Signals that Python ignores would stay ignored, and ``yes | head`` would never end.
        """
        for name in ("SIGPIPE", "SIGXFSZ"):
            if name in _BY_NAME:
                signal.signal(_BY_NAME[name], signal.SIG_DFL)
        if callable(signal.getsignal(signal.SIGINT)):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, self._child_handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, self._mask)


def _next_by_alarm(seconds: float | None) -> ReceivedSignal | None:
    """Wait with a timer. macOS has no ``sigtimedwait``; SIGALRM is therefore not forwarded to the command there."""
    signal.setitimer(signal.ITIMER_REAL, 0.0 if seconds is None else max(seconds, 0.001))
    number = signal.sigwait(HANDLED)
    signal.setitimer(signal.ITIMER_REAL, 0.0)
    return None if number == signal.SIGALRM else ReceivedSignal(number, number in _OF_TERMINAL)


def name_of(number: int) -> str:
    """The name of a signal: ``SIGKILL``, or ``signal 40`` if it has no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
