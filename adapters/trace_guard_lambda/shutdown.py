"""The end of an execution environment.

With any extension registered, the runtime gets SIGTERM before it is killed: 500 ms before with an internal
extension, 300 ms with external ones only. Without, it is killed at once, and the next start closes what is open.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
"""

from __future__ import annotations

import os
import signal

from trace_guard import Deadline
from trace_guard.runtime.state import PROCESS
from trace_guard.runtime.termination import Termination

__all__ = ["prepare_for_shutdown"]

# Of the shorter grace, what closing and one round trip may take.
_GRACE_SECONDS = 0.25
_EXIT_SECONDS = 0.3

_termination: Termination | None = None


def prepare_for_shutdown() -> None:
    """Close and deliver what is open when SIGTERM comes; once, and only under Lambda."""
    global _termination
    if _termination is None and os.environ.get("AWS_LAMBDA_RUNTIME_API"):
        # A process that ends by itself has delivered what it could; its caller, or the next init, waits for it.
        PROCESS.exits_within(_EXIT_SECONDS)
        _termination = Termination(_end, _GRACE_SECONDS)
        _termination.install()


def _end(number: int) -> None:
    is_certain = _termination is not None and _termination.ends_process(number)
    PROCESS.terminate(signal.Signals(number).name, Deadline.after(_GRACE_SECONDS), is_certain=is_certain)
