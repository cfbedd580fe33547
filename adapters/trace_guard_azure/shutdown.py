"""The end of a worker.

The host ends workers by killing them, and SIGTERM, where it comes first, kills them at once: no ``finally`` runs, and
no handler of the exit. So it is caught, what is open is closed and delivered, and it is then given to whoever had it
before.
"""

from __future__ import annotations

import signal
import sys
import threading

from trace_guard import Deadline
from trace_guard.contain import contain
from trace_guard.runtime.state import PROCESS
from trace_guard.runtime.termination import Termination

from .environment import is_worker

__all__ = ["keep_listening", "prepare_for_shutdown"]

# Of the 5 s that App Service gives a container to stop by default (WEBSITES_CONTAINER_STOP_TIME_LIMIT).
_GRACE_SECONDS = 3.0
# Each time costs a thread: somebody who will not be second is left to be first.
_MOST_TIMES = 3
_WORKERS = ("azure_functions_runtime", "azure_functions_runtime_v1", "azure_functions_worker", "proxy_worker")

_termination: Termination | None = None
_times = 0
_ending = threading.Lock()
_has_ended = False


def prepare_for_shutdown() -> None:
    """Close and deliver what is open when SIGTERM comes; once, and only in a worker. To be called at import, which is
    on the main thread: no other may install a handler."""
    if _termination is None and (is_worker() or any(one in sys.modules for one in _WORKERS)):
        _listen()


def keep_listening() -> None:
    """Come first again where somebody has installed a handler since. The FastAPI extension's server does when the app
    has been loaded, and cuts streams off as soon as the signal comes: what it cuts off would look as if its client had
    gone away. To be called when there is an invocation; that of a coroutine function is on the main thread."""
    if _termination is None or _times >= _MOST_TIMES or threading.current_thread() is not threading.main_thread():
        return
    if getattr(signal.getsignal(signal.SIGTERM), "__self__", None) is not _termination:
        _listen()


def _listen() -> None:
    global _termination, _times
    _times += 1
    with contain("listen for the end of the worker"):
        termination = Termination(_end, _GRACE_SECONDS)
        if termination.install():
            _termination = termination


def _end(number: int) -> None:
    global _has_ended
    with _ending:  # several may listen
        if not _has_ended:
            _has_ended = True
            is_certain = _termination is not None and _termination.ends_process(number)
            PROCESS.terminate(signal.Signals(number).name, Deadline.after(_GRACE_SECONDS), is_certain=is_certain)
