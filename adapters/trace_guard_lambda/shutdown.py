"""Closes and delivers before the execution environment ends.

With any extension, Lambda sends the runtime SIGTERM before it kills it: 500 ms before with an internal extension, 300
ms before with external ones only. Without extensions, Lambda kills it at once, and the next start closes its open
spans.

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
    """Listen for SIGTERM, only under Lambda. A second call changes nothing."""
    if os.environ.get("AWS_LAMBDA_RUNTIME_API"):
        # A process that ends by itself has tried to deliver already, and a caller or the next init waits for its exit.
        PROCESS.exits_within(_EXIT_SECONDS)
        _listener.install()
