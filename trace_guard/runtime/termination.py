"""What is done when a signal ends the process, also while its main thread is where no Python code runs.

Python calls a signal's handler on the main thread, between two of its instructions: while that is in C code,
never. So a thread is woken by way of ``signal.set_wakeup_fd``, to which C code writes at once; it does the work,
and the handler, if it gets to run, waits for that and then does what would have been done without us.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from ..contain import contain
from .wakeup_fd import Descriptor, give_back

__all__ = ["Termination"]

# How long the main thread may take to get to the handler, before it is taken to be in C code.
_HANDLER_SECONDS = 0.05
# How long what is interrupted in code of ours, where it may hold a lock, is held up at a time.
_LOCK_SECONDS = 0.1
_PACKAGE = __name__.partition(".")[0]
_ON_BEHALF = frozenset(("braintrust", "requests", "urllib3"))


class Termination:
    """Calls ``act``, on a thread of its own, when one of the signals comes: once while a handler of the program's own
    decides what that does, and once when it ends the process.

    A handler of the program's own may call ours as the one that it has replaced. Without us it would have found the
    default there, which can't be called: so what ends the process is the default alone, when ours is in force.

    Args:
        act: is given the signal's number; it is to be quick, and may not count on the main thread.
        patience: most seconds that the signal's own effect waits for ``act``.
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
        self._forward = Descriptor(-1)
        self._ears: tuple[socket.socket, socket.socket] | None = None
        self._pid = os.getpid()

    def install(self, signals: Sequence[int] = (signal.SIGTERM,), only_heard: Sequence[int] = ()) -> bool:
        """Begin to listen; False where that can't be: only the main thread may.

        Handlers that are there stay in force, and are called after ``act``; so does a wakeup descriptor.

        Args:
            only_heard: signals that have a handler in Python already, which is left where it is: ``hear`` is called
                while that has its effect.
        """
        if threading.current_thread() is not threading.main_thread():
            return False
        hearing, speaking = socket.socketpair()
        speaking.setblocking(False)
        try:
            threading.Thread(target=self._listen, args=(hearing,), name="trace-guard-signals", daemon=True).start()
        except RuntimeError:  # none can be had: then nothing is to be changed
            hearing.close()
            speaking.close()
            raise
        self._ears = hearing, speaking
        self._only_heard = frozenset(only_heard)
        for number in signals:
            # Without a handler in Python nothing is written to the descriptor.
            self._before[number] = signal.signal(number, self._handle)
        self._forward = Descriptor(signal.set_wakeup_fd(speaking.fileno(), warn_on_full_buffer=False))
        _installed.append(self)
        _hook()
        return True

    def uninstall(self) -> None:
        """Put back what was there before, unless somebody has put something else there since. Where only the main
        thread may do that, signals have from now on the effect that they had before."""
        for done in self._done.values():
            done.set()
        if self._ears is None or os.getpid() != self._pid or threading.current_thread() is not threading.main_thread():
            return
        (_, speaking), self._ears = self._ears, None
        self._put_handlers_back()
        give_back(speaking.fileno(), self._forward)
        speaking.close()  # the thread reads the end of it
        if self in _installed:
            _installed.remove(self)

    def ends_process(self, number: int) -> bool:
        """True if the process would have died without us, and nobody has installed another handler since. What has
        process id 1 does not die of the default: https://man7.org/linux/man-pages/man7/pid_namespaces.7.html"""
        is_default = self._before.get(number) == signal.SIG_DFL and signal.getsignal(number) == self._handle
        return is_default and os.getpid() != 1

    def _listen(self, hearing: socket.socket) -> None:
        with hearing:
            while heard := hearing.recv(64):
                if self._forward.is_there:
                    with contextlib.suppress(OSError):  # it does not keep up
                        os.write(self._forward.number, heard)
                for number in heard:
                    if number in self._before or number in self._only_heard:
                        self._attend(number)

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
                # Somebody else may have the wakeup descriptor by now, as asyncio's loops take it.
                with contain("close what a signal ends"):
                    threading.Thread(target=self._attend, args=(number,), daemon=True).start()
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
        """Wait until a signal that ends the process may have its effect; False if the main thread is to go on.

        What closes and delivers may wait for a lock that the main thread holds where it was interrupted. Once that is
        let go of, the signal is to find it elsewhere; the process ends in any case when all is done.
        """
        done = self._done[True]
        try:
            if not done.wait(_LOCK_SECONDS) and _is_ours(frame):
                with contain("come back to a signal"):
                    threading.Thread(target=self._remind, args=(number,), daemon=True).start()
                return False
            self._handled.set()
            done.wait(self.patience)
        except BaseException:  # noqa: BLE001 - the handler of another signal, such as Ctrl-C, wants it over: it is
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
        """In a forked child: its signals are not the parent's, whose thread listens at the same descriptor."""
        if self._ears is not None and threading.current_thread() is threading.main_thread():
            give_back(self._ears[1].fileno(), self._forward)
            # No thread of the child listens: with a handler in Python nothing would end it while it is in C code.
            with contextlib.suppress(ValueError, OSError):
                self._put_handlers_back()


_installed: list[Termination] = []
_is_hooked = False


def _hook() -> None:
    """Once for the process, however many are installed and taken away."""
    global _is_hooked
    if not _is_hooked and hasattr(os, "register_at_fork"):
        _is_hooked = True
        os.register_at_fork(after_in_child=_after_fork)


def _after_fork() -> None:
    # The last first: what it puts back is the handler of the one before.
    while _installed:
        with contain("give signals back in a forked child"):
            _installed.pop()._after_fork()


def _is_ours(frame: FrameType | None) -> bool:
    """True if the code that a signal has interrupted is this package's, or what that has called of the standard library
    and the SDK."""
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == _PACKAGE:
            return True
        if package not in sys.stdlib_module_names and package not in _ON_BEHALF:
            return False
        frame = frame.f_back
    return False


def _die_of(number: int) -> None:
    """What the signal would have done without a handler. Python lets the main thread alone say so, which does not
    come to it."""
    import ctypes

    ctypes.CDLL(None).signal(number, 0)
    os.kill(os.getpid(), number)
