"""The example's application, with tasks that end in other ways."""

import os
import signal
import sys
import time

import braintrust
from tasks import app


@app.task
def fails() -> None:
    raise ValueError("no such order")


@app.task
def leaves(code: int) -> None:
    sys.exit(code)


@app.task
def dies() -> None:
    with braintrust.start_span("step"):
        braintrust.flush()  # to the journal; what is in the SDK's queue would die with it
        os.kill(os.getpid(), signal.SIGKILL)


@app.task
def waits(seconds: float) -> str:
    with braintrust.start_span("step"):
        time.sleep(seconds)
    return "waited"
