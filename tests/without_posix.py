"""Takes away what Python lacks on Windows. Imported first by programs of the tests, before trace-guard.

https://docs.python.org/3/library/os.html and https://docs.python.org/3/library/signal.html name the availability.
"""

from __future__ import annotations

import os
import signal
import sys
import types

_OS = (
    "O_CLOEXEC", "O_NOFOLLOW", "O_DIRECTORY", "O_NONBLOCK", "O_SYNC", "register_at_fork", "fork", "forkpty", "geteuid",
    "getuid", "getegid", "getgid", "getpgid", "getpgrp", "setsid", "killpg", "fchmod", "fchown", "chown", "lchown",
    "sysconf", "sched_getaffinity", "pipe2", "mkfifo", "WNOHANG", "posix_spawn", "getloadavg", "uname", "statvfs",
    "fstatvfs", "pread", "pwrite", "initgroups", "setuid", "waitid", "wait3", "wait4",
)
_SIGNALS = (
    "SIGHUP", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGCHLD", "SIGCONT", "SIGSTOP", "SIGTSTP", "SIGQUIT", "SIGPIPE",
    "SIGKILL", "SIGWINCH", "SIGTRAP", "SIGBUS", "SIGSYS", "pthread_sigmask", "setitimer", "ITIMER_REAL", "alarm",
    "sigwait", "sigtimedwait", "pause", "SIG_BLOCK", "SIG_SETMASK", "SIG_UNBLOCK",
)
_MODULES = ("fcntl", "pwd", "grp", "resource", "termios", "tty", "pty", "syslog")


def _locking(descriptor: int, mode: int, count: int) -> None:
    """``msvcrt.locking``, whose locks belong to the open file as those of ``flock`` do."""
    _flock(descriptor, _EXCLUSIVE)


def take_away() -> None:
    """Remove the names, and put a stand-in of ``msvcrt`` in."""
    global _flock, _EXCLUSIVE
    import fcntl
    import multiprocessing  # noqa: F401 - loaded first, as it reads some of the names
    import socket  # noqa: F401
    import subprocess  # noqa: F401
    import tempfile  # noqa: F401

    _flock, _EXCLUSIVE = fcntl.flock, fcntl.LOCK_EX | fcntl.LOCK_NB
    for module, names in ((os, _OS), (signal, _SIGNALS)):
        for name in names:
            if hasattr(module, name):
                delattr(module, name)
    for name in _MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    msvcrt = types.ModuleType("msvcrt")
    msvcrt.locking, msvcrt.LK_NBLCK, msvcrt.LK_UNLCK = _locking, 2, 0  # type: ignore[attr-defined]
    sys.modules["msvcrt"] = msvcrt


take_away()
