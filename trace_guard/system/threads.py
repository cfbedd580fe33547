"""Threads that handle no signals.

A signal to the process goes to any thread that does not block it. A program that waits with ``sigwait()`` blocks it in
all of its own threads. Ours must block it too, or the signal would have its default effect.
"""

from __future__ import annotations

import signal
import threading

__all__ = ["QuietThread"]

# These report a fault of the thread that gets them, for example to faulthandler.
_FAULTS = frozenset(
    getattr(signal, name, None) for name in ("SIGSEGV", "SIGBUS", "SIGFPE", "SIGILL", "SIGABRT", "SIGTRAP", "SIGSYS")
)
_SIGNALS = frozenset(signal.valid_signals()) - _FAULTS


class QuietThread(threading.Thread):
    """A thread in which all signals are blocked from the start. On Windows a plain thread."""

    def start(self) -> None:
        """Start the thread. It inherits the signal mask, which is restored afterwards.

        Raises:
            RuntimeError: no thread can be started.
        """
        set_mask = getattr(signal, "pthread_sigmask", None)
        if set_mask is None:
            super().start()
            return
        before = set_mask(signal.SIG_BLOCK, ())
        try:
            set_mask(signal.SIG_BLOCK, _SIGNALS)
            super().start()
        finally:
            set_mask(signal.SIG_SETMASK, before)
