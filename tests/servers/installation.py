"""The environment with the servers and frameworks."""

from __future__ import annotations

import pytest
from environments import python_of

__all__ = ["PYTHON", "needs_servers"]

PYTHON = python_of("servers")
"""The interpreter beside which the commands of the servers are."""

needs_servers = pytest.mark.skipif(
    not (PYTHON.parent.parent / ".installed").exists(),
    reason="the servers are installed in .venv-servers: make environments",
)
"""The mark of tests that start servers."""
