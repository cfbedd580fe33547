"""Fixtures of these tests: functions in the real Functions Framework, in this process."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import functions_framework
import functions_framework.aio
import pytest
from fixtures import *  # noqa: F403
from functions_framework import _function_registry as registry
from gcf_client import AsgiClient

import trace_guard
from trace_guard import Guard
from trace_guard.backends.memory import MemoryBackend

__all__ = ["backend", "guard", "serve"]

Serve = Callable[..., Any]

PRELUDE = """
import flask, functions_framework, functions_framework.aio, starlette.exceptions, starlette.responses
from trace_guard import current_invocation
from trace_guard_gcf import guard_handler
"""


@pytest.fixture
def backend() -> MemoryBackend:
    return MemoryBackend()


@pytest.fixture
def guard(backend: MemoryBackend, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """The process's own guard, which functions use by default."""
    guard = Guard(backend=backend, dir=directory, project="p", flush_timeout=15)
    monkeypatch.setattr(trace_guard.guard, "_default", guard)
    yield guard
    guard.close()


@pytest.fixture
def serve(guard: Guard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Load a module with the framework and serve its function ``main``. Returns a client of Flask or Starlette."""
    for variable in ("FUNCTION_TARGET", "FUNCTION_SIGNATURE_TYPE", "FUNCTION_SOURCE"):
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "path", [*sys.path])
    for name in ("REGISTRY_MAP", "INPUT_TYPE_MAP"):
        monkeypatch.setattr(registry, name, {})
    monkeypatch.setattr(registry, "ASGI_FUNCTIONS", set())

    def serve(code: str, signature_type: str | None = None) -> Any:
        source = tmp_path / "main.py"
        source.write_text(PRELUDE + textwrap.dedent(code))
        app = functions_framework.create_app("main", str(source), signature_type)
        return app.test_client() if hasattr(app, "test_client") else AsgiClient(app)

    return serve
