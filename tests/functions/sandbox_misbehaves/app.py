"""Fails in the way that the event names."""

import os
import signal
import sys
import time

from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

ask_for_next = LambdaRuntimeClient.wait_next_invocation


def linger(client):
    time.sleep(60)


def raise_error():
    raise ValueError("no such customer")


def dawdle():
    print("dawdling")
    time.sleep(60)


def answer_and_linger():
    LambdaRuntimeClient.wait_next_invocation = linger
    return "an answer"


def ignore_sigterm():
    # SIG_IGN, because a Python handler would wait for the main thread, which is blocked in C.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


WAYS = {
    "raise": raise_error,
    "dawdle": dawdle,
    "exit": lambda: sys.exit(3),
    "exit_cleanly": lambda: os._exit(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "answer_and_linger": answer_and_linger,
    "answer_too_much": lambda: "x" * 7_000_000,
    "ignore_sigterm": ignore_sigterm,
    "nothing": lambda: "fine",
}


def handler(event, context):
    with open(os.path.join(os.environ["TMPDIR"], "ways"), "a") as ways:
        ways.write(event + "\n")
    return WAYS[event]()
