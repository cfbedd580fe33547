"""Closes and delivers before an instance ends. The platform sends SIGTERM, and SIGKILL ten seconds later.

https://cloud.google.com/run/docs/container-contract#instance-shutdown

After SIGTERM, gunicorn keeps answering for thirty seconds and uvicorn without a limit. A request that takes longer than
the platform's ten seconds never reaches its ``finally``. trace-guard closes and delivers open invocations shortly
before the kill. It does not affect the server or requests that end earlier.

gunicorn and uvicorn have handlers for the signal. These are wrapped to call trace-guard and change nothing else. Other
handlers stay in place, see :mod:`trace_guard.runtime.termination`.
"""

from __future__ import annotations

import functools
import inspect
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from trace_guard import Deadline
from trace_guard.contain import contain
from trace_guard.runtime.forks import begin_anew_if_forked, on_fork
from trace_guard.runtime.state import PROCESS
from trace_guard.runtime.termination import Termination
from trace_guard.system.threads import QuietThread

__all__ = ["finish", "prepare_for_shutdown"]

_GRACE_SECONDS = 10.0
# The time for closing and for delivery over a slow network. A request that ends meanwhile ends as usual.
_MARGIN_SECONDS = 2.0
_LAST_SECONDS = 0.2
# Without another handler, the signal ends the process as soon as delivery is over.
_AT_ONCE_SECONDS = 3.0
_FINISH_SECONDS = 2.0
_WORKER_EXIT_SECONDS = 3.0

# Classes whose method ``handle_exit`` handles the signal.
_SERVERS = (("gunicorn.workers.base", "Worker"), ("uvicorn.server", "Server"))
_MARK = "_calls_trace_guard"


class _ShutdownThread:
    """Closes and delivers on a thread after the signal. A signal handler can't do so, because the code that it
    interrupts may hold any lock."""

    def __init__(self) -> None:
        self._pid = 0
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.was_signalled = False

    def start(self) -> None:
        """Start the thread, once for the process and again in each child."""
        if self._pid == os.getpid():
            return
        with self._lock:
            if self._pid != os.getpid():
                QuietThread(target=self._run, name="trace-guard-shutdown", daemon=True).start()
                self._pid = os.getpid()

    def wake(self) -> None:
        """Report the signal. A handler may call this, because ``put`` of a SimpleQueue is reentrant."""
        if self._pid == os.getpid():
            self._signals.put(signal.SIGTERM)

    def _run(self) -> None:
        self._signals.get()
        killed_at = Deadline.after(_GRACE_SECONDS)
        self.was_signalled = True
        PROCESS.ends_by(killed_at.minus(_LAST_SECONDS))
        time.sleep(killed_at.minus(_MARGIN_SECONDS).remaining)
        self.close(killed_at.minus(_LAST_SECONDS))

    @staticmethod
    def close(deadline: Deadline) -> None:
        """Close and deliver all open invocations."""
        with contain("close open invocations before the instance ends"):
            PROCESS.terminate("SIGTERM", deadline)


_thread = _ShutdownThread()
_termination: Termination | None = None
_before: Any = None
_is_prepared = False
_serving = 0
_chained = 0


def prepare_for_shutdown(*, is_serving: bool = False) -> None:
    """Close and deliver the invocations that are still open when the instance ends. Call it when a module is imported,
    which may be before the server forks.

    Args:
        is_serving: True in a process that answers requests.
    """
    global _is_prepared, _serving
    begin_anew_if_forked()
    if not _is_prepared:
        _is_prepared = True
        on_fork(_after_fork)
        _wrap_servers()
        _watch_others()
    pid = os.getpid()
    if _chained != pid and threading.current_thread() is threading.main_thread():
        _chain()
    # Not in a process that is about to fork: its thread would run during the fork.
    if is_serving or pid in (_serving, _chained) or not _will_fork():
        if _serving != pid:
            _serving = pid
            _finish_at_exit()
        _thread.start()


def _after_fork() -> None:
    global _thread
    with contain("restart after a fork"):
        _thread = _ShutdownThread()
        # The disk goes with the instance, so nobody recovers what a worker leaves behind.
        PROCESS.exits_within(_WORKER_EXIT_SECONDS)
        _wrap_servers()


def _will_fork() -> bool:
    """True under gunicorn, or under the Functions Framework, which loads gunicorn after the function's module."""
    return "gunicorn.workers.base" in sys.modules or "functions_framework" in sys.modules


def _wrap_servers() -> None:
    """Wrap the methods that servers install as signal handlers, and those that start workers."""
    with contain("wrap the handlers of servers"):
        for kind in _kinds():
            for name, call in (
                ("handle_exit", _calling), ("init_process", _listening), ("shutdown", _finishing)
            ):
                plain = kind.__dict__.get(name)
                if plain is not None and not hasattr(plain, _MARK):
                    setattr(kind, name, call(plain))


def _kinds() -> Iterator[Any]:
    """The classes of the loaded servers, and their subclasses."""
    for module, name in _SERVERS:
        below = [getattr(sys.modules.get(module), name, None)]
        while below:
            kind = below.pop()
            if isinstance(kind, type):
                yield kind
                below.extend(kind.__subclasses__())


def _calling(plain: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(plain)
    def handle_exit(server: Any, *args: Any, **keywords: Any) -> Any:
        if signal.SIGTERM in (*args[:1], *keywords.values()):  # the servers name the parameters differently
            _thread.wake()
        return plain(server, *args, **keywords)

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


def _finishing(plain: Callable[..., Any]) -> Callable[..., Any]:
    """Deliver the remaining rows at the end of ``uvicorn.Server.shutdown``, also without lifespan events. uvicorn then
    lets the signal kill the process."""
    if not inspect.iscoroutinefunction(plain):
        return plain

    @functools.wraps(plain)
    async def shutdown(*args: Any, **keywords: Any) -> Any:
        try:
            return await plain(*args, **keywords)
        finally:
            await finish()

    setattr(shutdown, _MARK, True)
    return shutdown


def _chain() -> None:
    """Install a server's handler again if the server installed it before it was wrapped. uvicorn, and gunicorn without
    preloading, install it before they import the module."""
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
            # Installing a handler resets this flag. gunicorn sets it so that system calls of requests are restarted.
            signal.siginterrupt(signal.SIGTERM, not _is_gunicorns(server))
        _chained = os.getpid()


def _is_gunicorns(server: object) -> bool:
    worker = getattr(sys.modules.get("gunicorn.workers.base"), "Worker", None)
    return isinstance(worker, type) and isinstance(server, worker)


def _watch_others() -> None:
    """Listen in a program without a known server, or one that imports its server later."""
    global _termination, _before
    if _will_fork() or any(True for _ in _kinds()) or threading.current_thread() is not threading.main_thread():
        return
    with contain("listen for the end of the process"):
        _before = signal.getsignal(signal.SIGTERM)
        _termination = Termination(_on_signal, _AT_ONCE_SECONDS)
        _termination.install()


def _on_signal(number: int) -> None:
    is_ours = getattr(signal.getsignal(number), "__self__", None) is _termination
    if is_ours and _before == signal.SIG_DFL:
        _thread.close(Deadline.after(_AT_ONCE_SECONDS))
    else:
        _thread.start()
        _thread.wake()


def _finish_at_exit() -> None:
    """Deliver the remaining rows when a worker ends that ``multiprocessing`` has started, such as granian's: it runs
    these functions, and no exit handlers."""
    process = sys.modules.get("multiprocessing.process")
    if process is not None and process.parent_process() is not None:
        from multiprocessing.util import Finalize

        Finalize(None, _finish, exitpriority=0)


def _finish() -> None:
    """Deliver the remaining rows. After the signal, also close invocations outside requests."""
    deadline = Deadline.after(_FINISH_SECONDS)
    if _thread.was_signalled:
        _thread.close(deadline)
        PROCESS.release_idle()
    else:
        PROCESS.flush(deadline)


async def finish() -> None:
    """Deliver the remaining rows when the server has ended all requests: uvicorn then lets the signal kill the process
    without running exit handlers."""
    from trace_guard.invocation.handing_over import run_in_thread

    with contain("deliver the remaining rows"):
        done = run_in_thread(_finish)
        if done is not None:
            await done
