"""A function that guards its handler itself and returns how the previous invocation was delivered."""

import os
import signal

import braintrust

from trace_guard import current_invocation
from trace_guard_lambda import guard_handler

LATEST = []


@guard_handler(name="mine")
def handler(event, context):
    before = LATEST.pop() if LATEST else None
    LATEST.append(current_invocation())
    if event == "login":
        braintrust.login(api_key="sk-planted-another", force_login=True)
    if event == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    return before and [before.delivery.verdict.value, before.delivery.way]
