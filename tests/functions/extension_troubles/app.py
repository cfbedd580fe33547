"""A function in a process whose extension has faults. It returns how the previous invocation was delivered."""

import _thread
import logging
import os
import threading

TROUBLE = os.environ.get("TROUBLE")
EXTENSION = "trace-guard-extension"
LATEST = []


def like_greenlets(plain):
    """Start a thread that does not run while the runtime waits for its next event, as a greenlet would."""

    def start(function, *args, **keywords):
        thread = getattr(function, "__self__", None)
        if getattr(thread, "name", None) != EXTENSION:
            return plain(function, *args, **keywords)
        thread._started.set()
        return None

    return start


if TROUBLE == "greenlets":
    for module, name in ((_thread, "start_new_thread"), (threading, "_start_new_thread"),
                         (threading, "_start_joinable_thread")):
        if hasattr(module, name):
            setattr(module, name, like_greenlets(getattr(module, name)))

if TROUBLE == "no thread":
    plain_start = threading.Thread.start

    def start(thread):
        if thread.name == EXTENSION:
            raise RuntimeError("can't start new thread")
        plain_start(thread)

    threading.Thread.start = start


class Exits(logging.Handler):
    def emit(self, record):
        if threading.current_thread().name == EXTENSION:
            raise SystemExit(1)


if TROUBLE == "exits":
    logging.getLogger("trace_guard").addHandler(Exits())

from trace_guard import current_invocation  # noqa: E402
from trace_guard_lambda import guard_handler  # noqa: E402


@guard_handler
def handler(event, context):
    before = LATEST.pop().delivery if LATEST else None
    LATEST.append(current_invocation())
    return before and [before.verdict.value, before.way]
