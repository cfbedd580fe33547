"""Leaves a trace stuck in one of the ways that Braintrust's support article names, with the SDK alone.

``python unguarded.py CAUSE``. Each program says ``open`` when its start rows have arrived.
"""

from __future__ import annotations

import os
import signal
import sys

import braintrust

logger = braintrust.init_logger(project="support-bot")


def never_ended() -> None:
    span = logger.start_span("never_ended")
    span.log(output="the answer")


def forgotten_child() -> None:
    with logger.start_span("forgotten_child") as root:
        root.start_span("forgotten")
        with root.start_span("next"):
            pass


def crash() -> None:
    with logger.start_span("crash") as root, root.start_span("call"):
        braintrust.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def crash_at_once() -> None:
    with logger.start_span("crash_at_once"):
        braintrust.flush()
        os._exit(1)


def network_lost() -> None:
    with logger.start_span("network_lost") as root:
        call = root.start_span("call")
        braintrust.flush()
        print("open", flush=True)
        sys.stdin.readline()  # now the network is gone
        call.end()
    os._exit(0)  # what the SDK still holds is lost, as in a container that is removed


def exception_past_the_end() -> None:
    root = logger.start_span("exception_past_the_end")
    with root.start_span("call"):
        raise ValueError("the call has failed")
    root.end()


def parent_open() -> None:
    root = logger.start_span("parent_open")
    for name in ("first", "second"):
        with root.start_span(name):
            pass


if __name__ == "__main__":
    try:
        globals()[sys.argv[1]]()
    finally:
        braintrust.flush()
