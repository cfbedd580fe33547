"""Acts on a signal that ends the process, even while the main thread runs C code.

Python runs handlers on the main thread between bytecode instructions, so never during C code.
``signal.set_wakeup_fd`` is written to at once; a thread reads it and does the work. The handler, when it runs, waits
for that thread and then applies the signal's previous effect.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from ..contain import contain
from ..system.threads import QuietThread
from .forks import on_fork
from .wakeup_fd import pass_on, share, unshare

__all__ = ["Termination"]

# If the main thread does not run the handler within this time, it is assumed to be in C code.
_HANDLER_SECONDS = 0.05
# Interrupted code of this package may hold a lock, so the handler blocks it for at most this long at a time.
_LOCK_SECONDS = 0.1
_PACKAGE = __name__.partition(".")[0]
_ON_BEHALF = frozenset(("braintrust", "requests", "urllib3"))


class Termination:
    """Calls ``act`` on a separate thread when one of the signals arrives: once while the program's own handler decides
    the effect, and once when the signal ends the process.

    The program's own handler may call ours as the handler that it replaced. Without this class it would have found the
    default, which can't be called. So the default action ends the process only while our handler is installed.

    Args:
        act: receives the signal's number. It must be quick and must not depend on the main thread.
        patience: the most seconds that the signal's own effect waits for ``act``.
        hear: called instead of ``act``, each time, for signals that do not end the process.

    Attributes:
        patience: as given.
    """

    def __init__(
        self, act: Callable[[int], object], patience: float, hear: Callable[[int], object] | None = None
    ) -> None:
        self._act = act
        self._hear = hear
        self.patience = patience
        # For a signal that does not end the process, and for one that does.
        self._done = {False: threading.Event(), True: threading.Event()}
        self._once = {False: threading.Lock(), True: threading.Lock()}
        self._handled = threading.Event()
        self._before: dict[int, Any] = {}
        self._only_heard: frozenset[int] = frozenset()
        self._speaking: int | None = None
        self._pid = os.getpid()

    def install(self, signals: Sequence[int] = (signal.SIGTERM,), only_heard: Sequence[int] = ()) -> bool:
        """Begin to listen. Returns False if that is impossible: only the main thread may install handlers.

        Existing handlers stay in force and are called after ``act``. An existing wakeup descriptor stays in use too.

        Args:
            only_heard: signals that already have a Python handler, which stays installed: ``hear`` is called while that
                handler takes effect.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        if os.name == "nt":  # it takes only a socket there, and has no signal that would need it
            return self._install_handlers(signals, only_heard)
        # A pipe, as tests forbid sockets.
        hearing, speaking = os.pipe()
        try:
            os.set_blocking(speaking, False)
            QuietThread(
                target=self._listen, args=(hearing, speaking), name="trace-guard-signals", daemon=True
            ).start()
        except RuntimeError:  # no thread can be started: change nothing
            os.close(hearing)
            os.close(speaking)
            raise
        self._speaking = speaking
        self._install_handlers(signals, only_heard)
        share(speaking)
        return True

    def _install_handlers(self, signals: Sequence[int], only_heard: Sequence[int]) -> bool:
        self._only_heard = frozenset(only_heard)
        for number in signals:
            # Python writes to the descriptor only for signals that have a Python handler.
            self._before[number] = signal.signal(number, self._handle)
        _installed.append(self)
        on_fork(_after_fork)
        return True

    def uninstall(self) -> None:
        """Restore the previous handlers and descriptor, unless other code has replaced ours. Off the main thread they
        can't be restored, but signals have their previous effect from now on."""
        for done in self._done.values():
            done.set()
        if os.getpid() != self._pid or threading.current_thread() is not threading.main_thread():
            return
        speaking, self._speaking = self._speaking, None
        self._put_handlers_back()
        if speaking is not None:
            unshare(speaking)
            os.close(speaking)  # the thread reads the end of the stream
        if self in _installed:
            _installed.remove(self)

    def ends_process(self, number: int) -> bool:
        """True if the process would have died without us, and no other handler has been installed since. The default
        action does not kill process id 1: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html"""
        is_default = self._before.get(number) == signal.SIG_DFL and signal.getsignal(number) == self._handle
        return is_default and os.getpid() != 1

    def _listen(self, hearing: int, speaking: int) -> None:
        with contextlib.suppress(OSError):  # under a test's own file system
            while heard := os.read(hearing, 64):
                pass_on(speaking, heard)
                for number in heard:
                    if number in self._before or number in self._only_heard:
                        self._attend(number)
            os.close(hearing)

    def _attend(self, number: int) -> None:
        is_end = self.ends_process(number)
        self._run(number, is_end)
        if is_end:
            self._done[True].wait(self.patience)
            if self.ends_process(number) and not self._handled.wait(_HANDLER_SECONDS):
                _die_of(number)

    def _run(self, number: int, is_end: bool) -> None:
        if self._hear is not None and not is_end:
            with contain("take note of a signal"):
                self._hear(number)
        elif self._once[is_end].acquire(blocking=False):
            try:
                with contain("close what a signal ends"):
                    self._act(number)
            finally:
                self._done[is_end].set()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        is_in_force = signal.getsignal(number) == self._handle
        if os.getpid() == self._pid:
            is_end = self.ends_process(number)
            done = self._done[is_end]
            if not done.is_set():
                # Other code may have replaced the wakeup descriptor, as asyncio's loops do.
                with contain("close what a signal ends"):
                    QuietThread(target=self._attend, args=(number,), daemon=True).start()
            if is_end and not self._is_time(number, frame):
                return
            if not is_end and self._hear is None:
                done.wait(self.patience)
        before = self._before.get(number)
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN and is_in_force and os.getpid() != 1:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    def _is_time(self, number: int, frame: FrameType | None) -> bool:
        """Wait until a signal that ends the process may take effect. Returns False if the main thread must go on.

        Closing and delivering may wait for a lock that the interrupted main thread holds. The signal is repeated after
        the main thread has had time to release it. The process ends in any case when all is done.
        """
        done = self._done[True]
        try:
            if not done.wait(_LOCK_SECONDS) and _is_ours(frame):
                with contain("come back to a signal"):
                    QuietThread(target=self._remind, args=(number,), daemon=True).start()
                return False
            self._handled.set()
            done.wait(self.patience)
        except BaseException:  # noqa: BLE001 - another signal's handler, such as Ctrl-C, ends the wait
            self._handled.set()
        return True

    def _remind(self, number: int) -> None:
        if not self._done[True].wait(_LOCK_SECONDS):
            os.kill(self._pid, number)

    def _put_handlers_back(self) -> None:
        for number, before in self._before.items():
            if before is not None and signal.getsignal(number) == self._handle:
                signal.signal(number, before)

    def _after_fork(self) -> None:
        """In a forked child: the parent's thread reads the same descriptor, and must not see the child's signals."""
        if self._speaking is not None and threading.current_thread() is threading.main_thread():
            unshare(self._speaking)
            # No thread of the child listens, so with a Python handler nothing would end it while it runs C code.
            with contextlib.suppress(ValueError, OSError):
                self._put_handlers_back()


_installed: list[Termination] = []


def _after_fork() -> None:
    # The last one first: it restores the handler of the one before.
    while _installed:
        with contain("give signals back in a forked child"):
            _installed.pop()._after_fork()


def _is_ours(frame: FrameType | None) -> bool:
    """True if the signal interrupted code of this package, or code of the standard library or the SDK that this package
    called."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == _PACKAGE:
            return True
        if package not in sys.stdlib_module_names and package not in _ON_BEHALF:
            return False
        frame = frame.f_back
    return False


def _die_of(number: int) -> None:
    """Apply the signal's default action. Python lets only the main thread set it, and the main thread does not get
    there."""
    import ctypes

    ctypes.CDLL(None).signal(number, 0)
    os.kill(os.getpid(), number)
