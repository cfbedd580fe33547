"""Where Microsoft's runtime is installed: it needs Python 3.13, which may not be the Python that runs the tests."""

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
    """The Python of the environment that has the runtime; None if there is none."""
    named = os.environ.get(VARIABLE)
    if named:
        return Path(named)  # a wrong one is an error, and no reason to skip anything
    python = python_of("azure")
    return python if (python.parent.parent / ".installed").exists() else None


needs_runtime = pytest.mark.skipif(azure_python() is None, reason=MISSING)
"""The mark of tests that go through the runtime."""
