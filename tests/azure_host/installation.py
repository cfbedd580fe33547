"""The installation of Microsoft's runtime, which needs Python 3.13. The tests may run on another Python."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import pytest
from environments import python_of

__all__ = ["MISSING", "azure_python", "needs_runtime"]

VARIABLE = "TRACE_GUARD_AZURE_PYTHON"
MISSING = (
    f"Microsoft's runtime for Azure Functions needs Python 3.13: where there is one, make environments installs the "
    f"runtime in .venv-azure; or {VARIABLE} names the Python of an environment that has it"
)
"""Why a test is skipped without it."""


@cache
def azure_python() -> Path | None:
    """The Python of the environment with the runtime; None without one."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)  # a wrong path is an error and must not skip tests
    python = python_of("azure")
    return python if (python.parent.parent / ".installed").exists() else None


needs_runtime = pytest.mark.skipif(azure_python() is None, reason=MISSING)
"""The mark of tests that go through the runtime."""
