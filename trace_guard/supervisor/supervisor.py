"""Runs a command, forwards signals to it, closes and delivers its trace, and exits as the command exited."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ..contain import contain, contained
from ..deadline import Deadline
from ..errors import SettingsError
from ..jobs.platform import Platform
from ..jobs.platforms import detect
from ..redaction.outside_text import print_error
from ..settings import Settings
from ..system.threads import QuietThread
from .child import NOT_EXECUTABLE, Child, close_command_streams, initial_environment
from .command_user import CommandUser
from .exit_status import ExitStatus, exit_like
from .grace import GRACE_VARIABLE, Grace
from .memory_kills import MemoryKills
from .prctl import adopt_orphans
from .processes import children, is_dying
from .signals import Signals, name_of

if TYPE_CHECKING:
    from .trace import Trace

__all__ = ["Supervisor"]

# How long the processes that the command left behind may take to end: they would die with PID 1.
_LEFTOVERS_SECONDS = 2.0
_REAP_SECONDS = 0.5
_POLL_SECONDS = 0.05
# Signals that cut the delivery short once the command has ended.
_INTERRUPTING = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}


class Supervisor:
    """Runs one command.

    Args:
        command: the words of the command line.
        settings: reads the settings. If it raises, the error is reported and the command runs without a trace.
        name: the name of the root span.
        grace: seconds between the platform's SIGTERM and its SIGKILL; by default ``TRACE_GUARD_GRACE``, else the
            platform's.
        directory: ``TRACE_GUARD_DIR`` for the command; None to keep the environment's.
    """

    def __init__(
        self,
        command: Sequence[str],
        settings: Callable[[], Settings],
        *,
        name: str,
        grace: float | None = None,
        directory: Path | None = None,
    ) -> None:
        self._command = list(command)
        self._settings = settings
        self._name = name
        self._directory = directory
        self._platform: Platform = contained("detect the platform", detect, Platform(os.environ))
        self._grace = Grace(grace, self._platform)
        self._signals: Signals
        self._child: Child
        self._end: ExitStatus | None = None
        self._trace: Trace | None = None
        self._kills = MemoryKills()
        self._kill_at = self._done_by = Deadline.never()
        self._killed = False
        self._is_interrupted = False

    def run(self) -> int:
        """Run the command and return its exit code. If a signal killed the command, the same signal kills this process,
        except for PID 1, which returns the exit code that a shell reports."""
        adopt_orphans()
        added = {GRACE_VARIABLE: f"{self._grace.for_command:g}"}
        if self._directory is not None:
            added["TRACE_GUARD_DIR"] = str(self._directory)
        self._signals = Signals()
        try:
            self._child = Child(self._command, initial_environment(), added, self._signals)
        except OSError as error:
            print_error(f"{self._command[0]}: {error.strerror}")
            return NOT_EXECUTABLE
        with contain("close the streams of the command"):
            close_command_streams()
        try:
            with contain("trace the command"):
                self._trace = self._begin()
        finally:
            self._child.release(self._trace.exported if self._trace is not None else None)
        if self._trace is not None:
            with contain("continue tracing"):
                self._trace.start_background_work()
        end = self._watch()
        # A fault from here on must not change the exit status.
        with contain("end what the command left behind"):
            self._end_leftovers(end)
        with contain("close and deliver the trace of the command"):
            self._finish(end)
        return exit_like(end)

    def _begin(self) -> Trace | None:
        try:
            settings = self._settings()
        except SettingsError as error:
            print_error(f"{error}; the command runs without a trace")
            return None
        # Imported after the fork, so that the child does not carry these modules.
        from .trace import Trace

        return Trace(settings, self._name, self._command, self._child.pid, self._platform)

    # While it runs

    def _watch(self) -> ExitStatus:
        """Forward signals until the command has ended."""
        user = CommandUser(self._child.pid)
        while True:
            user.update()
            self._reap()
            if self._end is not None:
                if self._trace is not None:
                    user.warn_if_different()
                failure = contained("read why the command did not start", self._child.start_failure, None)
                return self._end._replace(failure=failure)
            self._handle_signal(None if self._killed else self._kill_at)
            if self._kill_at.expired and not self._killed:
                self._killed = True
                self._child.send(signal.SIGKILL)

    def _handle_signal(self, until: Deadline | None) -> None:
        """Wait for a signal and act on it."""
        remaining = None if until is None or until == Deadline.never() else until.remaining
        received = self._signals.wait(remaining)
        if received is None or received.number == signal.SIGCHLD:
            return
        if received.number == signal.SIGTERM and not self._signals.ignores_termination:
            self._start_grace()
        if self._end is not None:
            self._is_interrupted = self._is_interrupted or received.number in _INTERRUPTING
        elif not (received.from_kernel and self._child.shares_group):
            self._child.send(received.number)

    @property
    def _is_terminating(self) -> bool:
        """True once SIGTERM was received."""
        return self._kill_at != Deadline.never()

    def _start_grace(self) -> None:
        if not self._is_terminating:
            self._kill_at = Deadline.after(self._grace.for_command)
            self._done_by = Deadline.after(self._grace.until_exit)

    def _reap(self) -> None:
        """Reap every child that has ended, and stop this process if the command was stopped."""
        options = os.WNOHANG | (os.WUNTRACED if self._child.shares_group else 0)
        while True:
            try:
                pid, status = os.waitpid(-1, options)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if os.WIFSTOPPED(status):
                if pid == self._child.pid:
                    # The shell waits for this process, so it must stop together with the command. The shell continues
                    # the whole group.
                    os.kill(os.getpid(), signal.SIGSTOP)
                continue
            seen = ExitStatus.of(status, time.time())
            end = contained("find out why a process was killed", functools.partial(self._with_cause, seen), seen)
            if pid == self._child.pid:
                self._end = end
            if self._trace is not None:
                self._trace.record_exit(pid, end)

    def _with_cause(self, end: ExitStatus) -> ExitStatus:
        """The exit status with the cause of a SIGKILL, as far as it is known."""
        if end.killing_signal != signal.SIGKILL:
            return end
        ignored_signal = name_of(signal.SIGTERM) if self._killed and end.signal is not None else None
        return end._replace(ignored_signal=ignored_signal, out_of_memory=self._kills.since() > 0)

    # When it has ended

    def _end_leftovers(self, end: ExitStatus) -> None:
        """End the processes that the command left behind where they would die anyway, so that their journals can be
        closed: after the command was killed for time, and if this is PID 1. Otherwise they live on, as without a
        supervisor."""
        if os.getpid() == 1 and not self._killed:
            patience = self._kill_at if self._is_terminating else Deadline.after(_LEFTOVERS_SECONDS)
            self._await_leftovers(patience, signal.SIGTERM)
            self._killed = True
        if self._killed:
            self._await_leftovers(self._done_by.capped(_LEFTOVERS_SECONDS), signal.SIGKILL)
        elif end.killing_signal == signal.SIGKILL:
            # The sender of the SIGKILL may have killed the whole process group or control group.
            self._await_leftovers(self._done_by.capped(_REAP_SECONDS))
            self._await_leftovers(self._done_by.capped(_LEFTOVERS_SECONDS), condition=is_dying)

    def _await_leftovers(
        self, until: Deadline, number: int | None = None, condition: Callable[[int], bool] = lambda _: True
    ) -> None:
        """Wait until every remaining child has ended, after sending each of them the signal ``number``."""
        sent: set[int] = set()
        self._reap()
        while (left := set(filter(condition, children()))) and not until.expired:
            if number is not None:
                for pid in left - sent:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
            sent |= left
            self._handle_signal(until.capped(_POLL_SECONDS))
            self._reap()
        self._reap()

    def _finish(self, end: ExitStatus) -> None:
        """Close and deliver on a separate thread, so that signals can cut it short."""
        trace = self._trace
        if trace is None:
            return
        patience = Deadline.after(trace.exit_timeout)
        outcome = end.outcome(terminated=self._is_terminating)
        facts = {
            "process.exit_code": end.code,
            "process.signal": None if end.signal is None else name_of(end.signal),
            "process.oom_kills": self._kills.since() or None,
        }
        known = {name: value for name, value in facts.items() if value is not None}
        done = threading.Event()

        def finish() -> None:
            try:
                trace.finish(end, outcome, known, min(patience, self._done_by))
            finally:
                done.set()
                os.kill(os.getpid(), signal.SIGCHLD)  # wakes the main thread, which waits for signals

        try:
            QuietThread(target=finish, name="trace-guard-finish", daemon=True).start()
        except RuntimeError:  # no thread can be started: the command left too many processes
            trace.finish(end, outcome, known, min(patience, self._done_by).capped(_LEFTOVERS_SECONDS))
            return
        while not (done.is_set() or self._is_interrupted or min(patience, self._done_by).expired):
            self._handle_signal(min(patience, self._done_by))
            self._reap()
