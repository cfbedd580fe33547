"""The end of an execution environment.

If any extension is registered, the runtime gets SIGTERM before it is killed: 500 ms before with an internal extension,
300 ms before with external ones only. Without extensions it is killed at once, and the next start closes what is open.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html#runtimes-lifecycle-shutdown
"""

from __future__ import annotations

import os

from trace_guard.runtime.sigterm import SigtermListener
from trace_guard.runtime.state import PROCESS

__all__ = ["prepare_for_shutdown"]

_EXIT_SECONDS = 0.3

# The part of the shorter grace that closing and one round trip may take.
_listener = SigtermListener(0.25)


def prepare_for_shutdown() -> None:
    """Close and deliver what is open when SIGTERM comes; once, and only under Lambda."""
    if os.environ.get("AWS_LAMBDA_RUNTIME_API"):
        # A process that ends by itself has delivered what it could; its caller, or the next init, waits for it.
        PROCESS.exits_within(_EXIT_SECONDS)
        _listener.install()
