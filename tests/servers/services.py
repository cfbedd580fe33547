"""Services in the environment of the servers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from gcf.services import Service, run
from servers.installation import PYTHON
from support import REPOSITORY

from trace_guard.testing import BraintrustServer, CloudRunSandbox

__all__ = ["CODE", "sandbox_of", "serve"]

CODE = REPOSITORY / "tests" / "functions" / "servers"


def sandbox_of(command: str, server: BraintrustServer, **keywords: Any) -> CloudRunSandbox:
    """A sandbox, not started yet, for a command of the environment."""
    return run((command, "servers"), server, python=str(PYTHON), **keywords)


@contextlib.contextmanager
def serve(command: str, *, latency: float = 0.0, **keywords: Any) -> Iterator[Service]:
    """A running service, and the server that receives its traces."""
    with BraintrustServer(latency=latency) as server, sandbox_of(command, server, **keywords) as sandbox:
        yield Service(sandbox, server)
