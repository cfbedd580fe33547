"""Closes and delivers open invocations when SIGTERM ends the process."""

from __future__ import annotations

import signal
import threading

from ..deadline import Deadline
from .state import PROCESS
from .termination import Termination

__all__ = ["SigtermListener"]

# Each installation costs a thread, so a handler that keeps reinstalling itself is left in front.
_MOST_INSTALLATIONS = 3


class SigtermListener:
    """Listens for SIGTERM and leaves the previous handler in place behind it.

    Args:
        seconds: the most seconds for closing and delivering.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._termination: Termination | None = None
        self._installations = 0
        self._lock = threading.Lock()
        self._has_acted = False

    def install(self) -> None:
        """Begin to listen, once. Does nothing off the main thread, as only the main thread may install a handler."""
        if self._termination is None:
            self._install()

    def keep_first(self) -> None:
        """Listen again in front of a handler that was installed later."""
        if (
            self._termination is not None and self._installations < _MOST_INSTALLATIONS
            and threading.current_thread() is threading.main_thread()
            and getattr(signal.getsignal(signal.SIGTERM), "__self__", None) is not self._termination
        ):
            self._install()

    def _install(self) -> None:
        self._installations += 1
        termination = Termination(self._act, self._seconds)
        if termination.install():
            self._termination = termination

    def _act(self, number: int) -> None:
        with self._lock:  # several terminations may listen
            if not self._has_acted:
                self._has_acted = True
                is_certain = self._termination is not None and self._termination.ends_process(number)
                PROCESS.terminate(signal.Signals(number).name, Deadline.after(self._seconds), is_certain=is_certain)
