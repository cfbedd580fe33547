"""SIGTERM, SIGINT and SIGHUP while a job runs.

A signal that nobody else handles ends the process: what is open is closed and delivered before that. With a handler of
the program's own the end is its business, and a job that winds down in time ends as it would have; what is still open
shortly before the platform's SIGKILL is closed then. The same goes for a process with id 1, for which the kernel
leaves out the default action of a signal (https://man7.org/linux/man-pages/man7/pid_namespaces.7.html), so that it
goes on until it is killed.

SIGINT is only listened to where Python, asyncio or the program have a handler for it: they raise KeyboardInterrupt, or
cancel the main task, and ``asyncio.run`` does the latter only as long as it finds Python's own handler. No kill comes
after it: a job that catches it goes on.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

from ..contain import contain
from ..deadline import Deadline
from ..runtime.state import PROCESS
from ..runtime.termination import Termination

__all__ = ["JobSignals"]

# SIGHUP: the terminal is closed, or the connection to it is gone; with nohup it is ignored, and stays so.
_SIGNALS = (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))
# What closing and a delivery over a slow network may take, and never more than this share of the grace.
_MARGIN_SECONDS = 2.0
_MARGIN_SHARE = 0.25
LAST_SECONDS = 0.2
# How long the thread that hears signals may take, once one has had its effect on the main thread.
_HEARING_SECONDS = 0.1


class JobSignals:
    """What a job has to do with signals. All jobs that run listen together: one that begins while another runs would
    else take that one's handler for the program's own.

    Args:
        grace: seconds between the first signal and the platform's SIGKILL.
        patience: most seconds that a delivery may take, where the process ends as soon as we let it.
        before_end: called before spans are closed, with True if nothing of the job goes on.
    """

    def __init__(self, grace: float, patience: float, before_end: Callable[[bool], object]) -> None:
        self.grace = grace
        self.at_once = max(LAST_SECONDS, min(grace - LAST_SECONDS, patience))
        self.before_end = before_end
        self._came = threading.Event()
        self._name: str | None = None

    def came(self, error: BaseException | None = None) -> str | None:
        """The name of the first signal that has come, or of what came after a SIGINT; None if there was none.

        Args:
            error: what has come out of the job, which may be a signal's doing that is still to be heard of.
        """
        if error is not None and not isinstance(error, Exception) and _listener.is_listening(self):
            self._came.wait(_HEARING_SECONDS)
        return self._name

    def note(self, number: int) -> None:
        """A signal has come."""
        if self._name in (None, signal.SIGINT.name):
            self._name = signal.Signals(number).name
        self._came.set()

    def install(self) -> bool:
        """Begin to listen; False where that can't be: only the main thread may. Signals that are ignored stay so, also
        for the programs that this one starts."""
        return _listener.add(self)

    def uninstall(self) -> None:
        """The last one puts back what was there before the first, unless somebody has put something else there
        since."""
        _listener.remove(self)


class SignalListener:
    """Those of all jobs of the process that run."""

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
            termination = Termination(self._come, job.at_once, hear=self._wind_down)
            if not self._install(termination):
                return False
            self._termination = termination
        with self._lock:
            self._jobs.append(job)
            self._idle.clear()
            termination.patience = max(one.at_once for one in self._jobs)
        return True

    @staticmethod
    def _install(termination: Termination) -> bool:
        before = {number: signal.getsignal(number) for number in _SIGNALS}
        ours = [number for number, one in before.items() if one not in (None, signal.SIG_IGN)]
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
                return  # what only the main thread can put back stays for the next job
            termination, self._termination = self._termination, None
        if termination is not None:
            termination.uninstall()

    def is_listening(self, job: JobSignals) -> bool:
        return job in self._jobs

    # On threads of the termination's

    def _come(self, number: int) -> None:
        for job in tuple(self._jobs):
            job.note(number)
        self._end(number, Deadline.after(max((one.at_once for one in tuple(self._jobs)), default=LAST_SECONDS)), True)

    def _wind_down(self, number: int) -> None:
        """Somebody else decides what the signal does: wait for that as long as there is time."""
        jobs = tuple(self._jobs)
        for job in jobs:
            job.note(number)
        if number != signal.SIGTERM:
            return  # somebody is, or was, at a keyboard, who has nobody killed after a while
        with self._lock:
            if not self._killed_at.expired and self._killed_at != Deadline.never():
                return
            grace = min((job.grace for job in jobs), default=0.0)
            killed_at = self._killed_at = Deadline.after(grace)
        PROCESS.ends_by(killed_at.minus(LAST_SECONDS))
        threading.Thread(
            target=self._wait, args=(number, killed_at, grace), name="trace-guard-grace", daemon=True
        ).start()

    def _wait(self, number: int, killed_at: Deadline, grace: float) -> None:
        margin = min(_MARGIN_SECONDS, grace * _MARGIN_SHARE)
        if not self._idle.wait(killed_at.minus(margin).remaining):
            with contain("close what will not end before it is killed"):
                self._end(number, killed_at.minus(min(LAST_SECONDS, margin / 2)), False)
        # Nobody has killed it after all: the next end has all the time that there is.
        threading.Event().wait(killed_at.remaining)
        PROCESS.ends_by(Deadline.never())

    def _end(self, number: int, deadline: Deadline, is_last: bool) -> None:
        for job in tuple(self._jobs):
            with contain("prepare for the end"):
                job.before_end(is_last)
        PROCESS.terminate(signal.Signals(number).name, deadline, is_certain=is_last)


_listener = SignalListener()


def _after_fork() -> None:
    global _listener
    _listener = SignalListener()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
