"""Begins anew in a forked child, also where Python has not noticed the fork.

uWSGI forks its workers in C, and by default without Python's hooks. Then nothing of the parent works in the child: no
thread exists, and locks stay held. gevent's ``monkey.patch_all()`` has the same effect after an import: a native lock
that a greenlet waits for stops all of them. gunicorn with ``--preload`` patches in its workers. So both are looked for
wherever an invocation begins.
"""

from __future__ import annotations

import _thread
import os
import sys
import threading
import time
from collections.abc import Callable

from ..contain import contain

__all__ = ["begin_anew_if_forked", "first_fork", "on_fork", "will_fork_in_c"]

_FORK_OPTIONS = {"py-call-uwsgi-fork-hooks", "py-call-osafterfork", "lazy-apps", "lazy"}

# The libraries whose threads are greenlets.
_GREEN = ("gevent", "eventlet")

_hooks: list[Callable[[], object]] = []
_lock = threading.RLock()
_world: tuple[int, bool] | None = None
_is_beginning = False
_first_fork: str | None = None


def on_fork(hook: Callable[[], object]) -> None:
    """Call the hook in each child, after the hooks that are there already. A second registration has no effect."""
    global _world
    if _world is None:
        _world = _present()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(before=_note_fork, after_in_child=_begin_anew)
    if hook not in _hooks:
        _hooks.append(hook)


def begin_anew_if_forked() -> None:
    """Call the hooks if this is another process than before, or one whose threads have become greenlets."""
    if _world is not None and _world != _present():
        with _lock:  # other threads wait until all is done
            if _world != _present() and not _is_beginning:
                _begin_anew()


def first_fork() -> str | None:
    """When this process forked for the first time, in the format of journal names; None if Python has seen no fork."""
    return _first_fork


def will_fork_in_c() -> bool:
    """True in the master of uWSGI before it forks, unless it is told to call Python's hooks. A thread that runs during
    such a fork may leave a lock of the interpreter held in the child for ever.

    https://uwsgi-docs.readthedocs.io/en/latest/Options.html#py-call-uwsgi-fork-hooks
    """
    uwsgi = sys.modules.get("uwsgi")  # a built-in module, which exists in uWSGI only
    if uwsgi is None or not hasattr(uwsgi, "worker_id") or uwsgi.worker_id() != 0:
        return False
    options = {name.decode() if isinstance(name, bytes) else str(name) for name in uwsgi.opt}
    return not options & _FORK_OPTIONS


def _note_fork() -> None:
    global _first_fork
    if _first_fork is None:
        _first_fork = str(time.time_ns() // 1_000_000)


def _present() -> tuple[int, bool]:
    """The process, and whether threads are greenlets in it."""
    module = getattr(_thread.start_new_thread, "__module__", None) or ""
    return os.getpid(), module.partition(".")[0] in _GREEN


def _begin_anew() -> None:
    global _first_fork, _is_beginning, _world
    _first_fork = None
    _is_beginning = True  # a hook may open an invocation
    try:
        for hook in tuple(_hooks):
            with contain("begin anew after a fork"):
                hook()
    finally:
        _world, _is_beginning = _present(), False
