"""Handles SIGTERM, SIGINT and SIGHUP while a job runs.

Without a handler of the program, a signal ends the process. The open spans are closed and delivered first. With a
handler of the program, that handler decides. A job that winds down in time ends normally; spans that are still open
shortly before the platform's SIGKILL are closed then. The same holds for process 1: the kernel skips the default action
of its signals (https://man7.org/linux/man-pages/man7/pid_namespaces.7.html), so it runs until it is killed.

For SIGINT, an existing handler of Python, asyncio or the program stays installed. It raises KeyboardInterrupt or
cancels the main task, and ``asyncio.run`` cancels only if it finds Python's own handler. No SIGKILL follows a SIGINT,
so a job that catches it runs on.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from ..contain import contain, warn_once
from ..deadline import Deadline
from ..runtime.forks import on_fork
from ..runtime.state import PROCESS
from ..runtime.termination import Termination
from ..system.threads import QuietThread

__all__ = ["JobSignals"]

# SIGHUP: the terminal or its connection was closed. Under nohup it is ignored and stays ignored.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
# The time for closing and for a delivery over a slow network, and its maximum share of the grace period.
_MARGIN_SECONDS = 2.0
_MARGIN_SHARE = 0.25
LAST_SECONDS = 0.2
# How long the listening thread may lag behind the effect of a signal on the main thread.
_LISTENER_SECONDS = 0.1


class JobSignals:
    """The signals of one job. All running jobs share one listener, because a second one would mistake the handler of
    the first for the program's own.

    Args:
        grace: seconds between the first signal and the platform's SIGKILL.
        patience: how many seconds a delivery may take at most if the process ends right after it.
        before_end: called before spans are closed, with True if the process ends after that.

    Attributes:
        at_once: how many seconds closing and delivery may take if the process ends right after them.
    """

    def __init__(self, grace: float, patience: float, before_end: Callable[[bool], object]) -> None:
        self.grace = grace
        self.at_once = max(LAST_SECONDS, min(grace - LAST_SECONDS, patience))
        self.before_end = before_end
        self._received = threading.Event()
        self._name: str | None = None

    def received(self, error: BaseException | None = None) -> str | None:
        """The name of the first received signal, or of one that followed a SIGINT; None without a signal.

        Args:
            error: the exception that ended the job. A signal may have caused it that the listener has yet to report.
        """
        if error is not None and not isinstance(error, Exception) and _listener.is_listening(self):
            self._received.wait(_LISTENER_SECONDS)
        return self._name

    def note(self, number: int) -> None:
        """Record a signal."""
        if self._name in (None, signal.SIGINT.name):
            self._name = signal.Signals(number).name
        self._received.set()

    def install(self) -> bool:
        """Start listening. Returns False outside the main thread, where Python installs no handlers.

        Ignored signals stay ignored, because programs that this one starts inherit that.
        """
        if not hasattr(signal, "SIGHUP"):
            warn_once("signals", "this system sends no SIGTERM: a job that is killed is closed at the next start")
        return _listener.add(self)

    def uninstall(self) -> None:
        """Stop listening. The last job restores the handlers that the first one found, unless they have changed."""
        _listener.remove(self)


class SignalListener:
    """Listens to signals for all running jobs of the process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: list[JobSignals] = []
        self._termination: Termination | None = None
        self._killed_at = Deadline.never()
        self._idle = threading.Event()

    def add(self, job: JobSignals) -> bool:
        if threading.current_thread() is not threading.main_thread():
            return False
        termination = self._termination
        if termination is None:
            termination = Termination(self._terminate, job.at_once, hear=self._wind_down)
            if not self._install(termination):
                return False
            self._termination = termination
        with self._lock:
            self._jobs.append(job)
            self._idle.clear()
            termination.patience = max(other.at_once for other in self._jobs)
        return True

    @staticmethod
    def _install(termination: Termination) -> bool:
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        ours = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
        theirs = [number for number in ours if number == signal.SIGINT and before[number] != signal.SIG_DFL]
        return termination.install([number for number in ours if number not in theirs], theirs)

    def remove(self, job: JobSignals) -> None:
        with self._lock:
            if job in self._jobs:
                self._jobs.remove(job)
            if self._jobs:
                return
            self._idle.set()
            if threading.current_thread() is not threading.main_thread():
                return  # only the main thread can restore handlers: keep them for the next job
            termination, self._termination = self._termination, None
        if termination is not None:
            termination.uninstall()

    def is_listening(self, job: JobSignals) -> bool:
        return job in self._jobs

    # Called on threads of Termination

    def _terminate(self, number: int) -> None:
        for job in tuple(self._jobs):
            job.note(number)
        at_once = max((job.at_once for job in tuple(self._jobs)), default=LAST_SECONDS)
        self._end(number, Deadline.after(at_once), True)

    def _wind_down(self, number: int) -> None:
        """Another handler decides what the signal does. Let it act, and close shortly before the SIGKILL."""
        jobs = tuple(self._jobs)
        for job in jobs:
            job.note(number)
        if number != signal.SIGTERM:
            return  # a SIGINT or SIGHUP comes from a terminal, and no SIGKILL follows it
        with self._lock:
            if not self._killed_at.expired and self._killed_at != Deadline.never():
                return
            grace = min((job.grace for job in jobs), default=0.0)
            killed_at = self._killed_at = Deadline.after(grace)
        PROCESS.ends_by(killed_at.minus(LAST_SECONDS))
        QuietThread(
            target=self._wait, args=(number, killed_at, grace), name="trace-guard-grace", daemon=True
        ).start()

    def _wait(self, number: int, killed_at: Deadline, grace: float) -> None:
        margin = min(_MARGIN_SECONDS, grace * _MARGIN_SHARE)
        if not self._idle.wait(killed_at.minus(margin).remaining):
            with contain("close the spans of a job that is about to be killed"):
                self._end(number, killed_at.minus(min(LAST_SECONDS, margin / 2)), False)
        # No SIGKILL came, so later ends are not bounded by it.
        threading.Event().wait(killed_at.remaining)
        PROCESS.ends_by(Deadline.never())

    def _end(self, number: int, deadline: Deadline, is_last: bool) -> None:
        for job in tuple(self._jobs):
            with contain("prepare a job for its end"):
                job.before_end(is_last)
        PROCESS.terminate(signal.Signals(number).name, deadline, is_certain=is_last)


_listener = SignalListener()


def _after_fork() -> None:
    global _listener
    _listener = SignalListener()


on_fork(_after_fork)
