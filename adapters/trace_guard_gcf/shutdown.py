"""The end of an instance: SIGTERM, and SIGKILL ten seconds later.

https://cloud.google.com/run/docs/container-contract#instance-shutdown

Servers answer what they can within a grace of their own, thirty seconds with gunicorn and without an end with
uvicorn: a request that takes longer than the platform's ten never comes to its ``finally``. So what is still open
shortly before the kill is closed and delivered then. Requests that end before are left alone, and so is the server.

gunicorn and uvicorn have handlers for the signal. To hear of it with nothing else changed, theirs are called by ours;
all others are left in place, see :mod:`trace_guard.runtime.termination`.
"""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from trace_guard import Deadline
from trace_guard.contain import contain
from trace_guard.runtime.state import PROCESS
from trace_guard.runtime.termination import Termination

__all__ = ["finish", "prepare_for_shutdown"]

_GRACE_SECONDS = 10.0
# What closing and a delivery over a slow network may take. A request that ends meanwhile is told as it ended.
_MARGIN_SECONDS = 2.0
_LAST_SECONDS = 0.2
# Where nobody else has a handler, the signal ends the process as soon as we let it.
_AT_ONCE_SECONDS = 3.0
_FINISH_SECONDS = 2.0

# Modules and names of what has a method ``handle_exit`` for the signal.
_SERVERS = (("gunicorn.workers.base", "Worker"), ("uvicorn.server", "Server"))
_MARK = "_calls_trace_guard"


class _Shutdown:
    """Waits for the signal on a thread, as next to nothing may be done in a handler: the thread that it interrupts
    can hold any lock."""

    def __init__(self) -> None:
        self._pid = 0
        self._ears: tuple[socket.socket, socket.socket] | None = None
        self._lock = threading.Lock()
        self.has_come = False

    def listen(self) -> None:
        """Begin to, once for the process; again in each child."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                hearing, speaking = socket.socketpair()
                speaking.setblocking(False)
                thread = threading.Thread(target=self._wait, args=(hearing,), name="trace-guard-shutdown", daemon=True)
                thread.start()
                self._ears, self._pid = (hearing, speaking), os.getpid()

    def hear(self) -> None:
        """The signal has come. May be called by its handler."""
        if self._ears is not None and self._pid == os.getpid():
            with contextlib.suppress(OSError):  # it has been heard already
                self._ears[1].send(b"!")

    def _wait(self, hearing: socket.socket) -> None:
        hearing.recv(1)
        killed_at = Deadline.after(_GRACE_SECONDS)
        self.has_come = True
        PROCESS.ends_by(killed_at.minus(_LAST_SECONDS))
        time.sleep(killed_at.minus(_MARGIN_SECONDS).remaining)
        self.end(killed_at.minus(_LAST_SECONDS))

    @staticmethod
    def end(deadline: Deadline) -> None:
        """Close what is open, and deliver it."""
        with contain("close what the end of the instance ends"):
            PROCESS.terminate("SIGTERM", deadline)

    def after_fork(self) -> None:
        """In a child: the parent's thread is not here, and its ears are not ours."""
        self._lock = threading.Lock()
        self.has_come = False
        ears, self._ears, self._pid = self._ears, None, 0
        for end in ears or ():
            end.close()


_shutdown = _Shutdown()
_termination: Termination | None = None
_before: Any = None
_is_prepared = False
_serving = 0
_chained = 0


def prepare_for_shutdown(*, is_serving: bool = False) -> None:
    """Close and deliver what will not end before the instance does. To be called when a module is imported, which
    may be before its server forks.

    Args:
        is_serving: a request has come, so that this is a process that answers them.
    """
    global _is_prepared, _serving
    if not _is_prepared:
        _is_prepared = True
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=_after_fork)
        _wrap_servers()
        _watch_others()
    pid = os.getpid()
    if _chained != pid and threading.current_thread() is threading.main_thread():
        _chain()
    # Not in what will fork: a thread of its own would be there at the fork.
    if is_serving or pid in (_serving, _chained) or not _will_fork():
        _serving = pid
        _shutdown.listen()


def _after_fork() -> None:
    with contain("begin anew after a fork"):
        _shutdown.after_fork()
        _wrap_servers()


def _will_fork() -> bool:
    """True if gunicorn is about to serve, or the Functions Framework, which loads it after the module."""
    return "gunicorn.workers.base" in sys.modules or "functions_framework" in sys.modules


def _wrap_servers() -> None:
    """Have the handlers of servers call us, those that they will install, and workers listen."""
    with contain("hear of the end of a server"):
        for kind in _kinds():
            for name, call in (("handle_exit", _calling), ("init_process", _listening)):
                plain = kind.__dict__.get(name)
                if plain is not None and not hasattr(plain, _MARK):
                    setattr(kind, name, call(plain))


def _kinds() -> Iterator[Any]:
    """The classes of servers that are loaded, and those below them."""
    for module, name in _SERVERS:
        below = [getattr(sys.modules.get(module), name, None)]
        while below:
            kind = below.pop()
            if isinstance(kind, type):
                yield kind
                below.extend(kind.__subclasses__())


def _calling(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def handle_exit(server: Any, number: int, *rest: Any, **keywords: Any) -> Any:
        if number == signal.SIGTERM:
            _shutdown.hear()
        return plain(server, number, *rest, **keywords)

    setattr(handle_exit, _MARK, True)
    return handle_exit


def _listening(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def init_process(worker: Any, *args: Any, **keywords: Any) -> Any:
        with contain("prepare for the end of a worker"):
            prepare_for_shutdown(is_serving=True)
        return plain(worker, *args, **keywords)

    setattr(init_process, _MARK, True)
    return init_process


def _chain() -> None:
    """Install the handler of a server anew that was installed before it called us: where gunicorn does not
    preload, and with uvicorn, the module is imported after that."""
    global _chained
    with contain("chain the handler of a server"):
        handler = signal.getsignal(signal.SIGTERM)
        server: Any = getattr(handler, "__self__", None)
        function = getattr(handler, "__func__", None)
        if not any(isinstance(server, kind) for kind in _kinds()):
            return
        _wrap_servers()
        if not hasattr(function, _MARK):
            signal.signal(signal.SIGTERM, server.handle_exit)
            # As gunicorn does, so that system calls of requests go on; installing a handler has undone it.
            signal.siginterrupt(signal.SIGTERM, not _is_gunicorns(server))
        _chained = os.getpid()


def _is_gunicorns(server: object) -> bool:
    worker = getattr(sys.modules.get("gunicorn.workers.base"), "Worker", None)
    return isinstance(worker, type) and isinstance(server, worker)


def _watch_others() -> None:
    """Where there is no server that we know: a program of its own, or one whose server has yet to be imported."""
    global _termination, _before
    if _will_fork() or any(True for _ in _kinds()) or threading.current_thread() is not threading.main_thread():
        return
    with contain("listen for the end of the process"):
        _before = signal.getsignal(signal.SIGTERM)
        _termination = Termination(_other_end, _AT_ONCE_SECONDS)
        _termination.install()


def _other_end(number: int) -> None:
    is_ours = getattr(signal.getsignal(number), "__self__", None) is _termination
    if is_ours and _before == signal.SIG_DFL:
        _shutdown.end(Deadline.after(_AT_ONCE_SECONDS))
    else:
        _shutdown.listen()
        _shutdown.hear()


async def finish() -> None:
    """The server has ended all requests: deliver what is left, and after the signal close what no request owns, as
    uvicorn lets the signal kill the process, without handlers of its exit."""
    from trace_guard.invocation.invocation import run_in_thread

    def work() -> None:
        deadline = Deadline.after(_FINISH_SECONDS)
        if _shutdown.has_come:
            _shutdown.end(deadline)
        else:
            PROCESS.flush(deadline)

    with contain("deliver what is left"):
        done = run_in_thread(work)
        if done is not None:
            await done
