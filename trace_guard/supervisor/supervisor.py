"""Runs a command, passes on to it what it is told, and ends as it has ended, when its trace is closed and delivered."""

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
from .another_user import AnotherUser
from .child import NOT_EXECUTABLE, Child, environment_of_command, let_go_of_streams
from .end import End, repeat
from .grace import GRACE_VARIABLE, Grace
from .memory_kills import MemoryKills
from .prctl import adopt_orphans
from .processes import children, is_dying
from .signals import Signals, name_of

if TYPE_CHECKING:
    from .trace import Trace

__all__ = ["Supervisor"]

# How long the processes that PID 1 would take with it may take to end.
_LEFTOVERS_SECONDS = 2.0
_LETTING_GO_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 0.05
# Whoever interrupts a command that is over already has no use for what is still being done.
_IMPATIENT = {signal.SIGINT, signal.SIGQUIT, signal.SIGHUP}


class Supervisor:
    """Runs one command.

    Args:
        command: its words.
        settings: reads them; what it raises is reported, and the command runs without a trace.
        name: of the root span.
        grace: seconds between the platform's SIGTERM and its SIGKILL; by default those of ``TRACE_GUARD_GRACE``, else
            of the platform.
        directory: ``TRACE_GUARD_DIR`` for the command, if it is not to find its own.
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
        self._platform: Platform = contained("tell the platform", detect, Platform(os.environ))
        self._grace = Grace(grace, self._platform)
        self._signals: Signals
        self._child: Child
        self._end: End | None = None
        self._trace: Trace | None = None
        self._kills = MemoryKills()
        self._kill_at = self._done_by = Deadline.never()
        self._killed = False
        self._impatient = False

    def run(self) -> int:
        """Run the command to its end; the exit status, as the command has or as a shell would see it. If a signal has
        killed the command, and this is not PID 1, the same signal kills this process, and nothing is returned."""
        adopt_orphans()
        added = {GRACE_VARIABLE: f"{self._grace.of_command:g}"}
        if self._directory is not None:
            added["TRACE_GUARD_DIR"] = str(self._directory)
        self._signals = Signals()
        try:
            self._child = Child(self._command, environment_of_command(), added, self._signals)
        except OSError as error:
            print_error(f"{self._command[0]}: {error.strerror}")
            return NOT_EXECUTABLE
        with contain("let go of the command's streams"):
            let_go_of_streams()
        try:
            with contain("trace the command"):
                self._trace = self._begin()
        finally:
            self._child.release(self._trace.exported if self._trace is not None else None)
        if self._trace is not None:
            with contain("go on tracing"):
                self._trace.go_on()
        end = self._watch()
        # Whatever is wrong here, the command has ended as it has.
        with contain("end what the command left behind"):
            self._end_leftovers(end)
        with contain("close and deliver the trace of the command"):
            self._finish(end)
        return repeat(end)

    def _begin(self) -> Trace | None:
        try:
            settings = self._settings()
        except SettingsError as error:
            print_error(f"{error}; the command runs without a trace")
            return None
        # The child is there by now: what this loads costs it less.
        from .trace import Trace

        return Trace(settings, self._name, self._command, self._child.pid, self._platform)

    # While it runs

    def _watch(self) -> End:
        """Pass signals on until the command has ended."""
        user = AnotherUser(self._child.pid)
        while True:
            user.look()
            self._reap()
            if self._end is not None:
                if self._trace is not None:
                    user.warn()
                return self._end._replace(failure=contained("tell why it failed", self._child.failure, None))
            self._hear(None if self._killed else self._kill_at)
            if self._kill_at.expired and not self._killed:
                self._killed = True
                self._child.send(signal.SIGKILL)

    def _hear(self, until: Deadline | None) -> None:
        """Wait for a signal, and do what it asks for."""
        remaining = None if until is None or until == Deadline.never() else until.remaining
        heard = self._signals.next(remaining)
        if heard is None or heard.number == signal.SIGCHLD:
            return
        if heard.number == signal.SIGTERM and not self._signals.ignores_termination:
            self._ends_after_grace()
        if self._end is not None:
            self._impatient = self._impatient or heard.number in _IMPATIENT
        elif not (heard.from_kernel and self._child.shares_group):
            self._child.send(heard.number)

    @property
    def _is_asked(self) -> bool:
        """True if this process has been told to end."""
        return self._kill_at != Deadline.never()

    def _ends_after_grace(self) -> None:
        if not self._is_asked:
            self._kill_at = Deadline.after(self._grace.of_command)
            self._done_by = Deadline.after(self._grace.until_exit)

    def _reap(self) -> None:
        """Take note of every child that has ended, or of the command that was stopped."""
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
                    # As the shell waits for this process, it is to see it stop with the command. The whole group is
                    # continued by the shell.
                    os.kill(os.getpid(), signal.SIGSTOP)
                continue
            seen = End.of(status, time.time())
            end = contained("tell how a process has ended", functools.partial(self._told, seen), seen)
            if pid == self._child.pid:
                self._end = end
            if self._trace is not None:
                self._trace.saw(pid, end)

    def _told(self, end: End) -> End:
        """With what is known of a kill."""
        if end.told != signal.SIGKILL:
            return end
        asked_by = name_of(signal.SIGTERM) if self._killed and end.signal is not None else None
        return end._replace(asked_by=asked_by, out_of_memory=self._kills.since() > 0)

    # When it has ended

    def _end_leftovers(self, end: End) -> None:
        """See to it that the command's processes are dead before their journals are looked at, where they die anyway:
        after a kill for time, and with PID 1. Elsewhere they live on, as they would without a supervisor."""
        if os.getpid() == 1 and not self._killed:
            patience = self._kill_at if self._is_asked else Deadline.after(_LEFTOVERS_SECONDS)
            self._await_leftovers(patience, signal.SIGTERM)
            self._killed = True
        if self._killed:
            self._await_leftovers(self._done_by.capped(_LEFTOVERS_SECONDS), signal.SIGKILL)
        elif end.told == signal.SIGKILL:
            # Whoever has killed the command may have killed all of its group, or of its control group.
            self._await_leftovers(self._done_by.capped(_LETTING_GO_SECONDS))
            self._await_leftovers(self._done_by.capped(_LEFTOVERS_SECONDS), if_it=is_dying)

    def _await_leftovers(
        self, until: Deadline, number: int | None = None, if_it: Callable[[int], bool] = lambda _: True
    ) -> None:
        """Wait for the end of every process that has become ours, and send it a signal before."""
        sent: set[int] = set()
        self._reap()
        while (left := set(filter(if_it, children()))) and not until.expired:
            if number is not None:
                for pid in left - sent:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(pid, number)
            sent |= left
            self._hear(until.capped(_LOOK_AGAIN_SECONDS))
            self._reap()
        self._reap()

    def _finish(self, end: End) -> None:
        """Close and deliver, on a thread of its own: signals may cut that short."""
        trace = self._trace
        if trace is None:
            return
        patience = Deadline.after(trace.exit_timeout)
        outcome = end.outcome(terminated=self._is_asked)
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
                os.kill(os.getpid(), signal.SIGCHLD)  # the main thread waits for nothing but signals

        try:
            threading.Thread(target=finish, name="trace-guard-finish", daemon=True).start()
        except RuntimeError:  # the command has left so many processes running that none can be had
            trace.finish(end, outcome, known, min(patience, self._done_by).capped(_LEFTOVERS_SECONDS))
            return
        while not (done.is_set() or self._impatient or min(patience, self._done_by).expired):
            self._hear(min(patience, self._done_by))
            self._reap()
