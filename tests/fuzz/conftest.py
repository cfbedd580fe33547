"""The fuzzer of these tests, and a guard whose rows stay in memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures import *  # noqa: F403
from fuzzer import Fuzzer

import trace_guard
from trace_guard import Guard

from clearing_backend import ClearingBackend  # isort: skip

__all__ = ["backend", "fuzzer", "guard"]

TARGETS = 12
"""How many tests share the time that ``--fuzz-seconds`` allows."""


@pytest.fixture
def fuzzer(request: pytest.FixtureRequest) -> Iterator[Fuzzer]:
    """Runs a test with generated input for this test's share of the time; says how many examples it tried."""
    options = request.config.option
    fuzzer = Fuzzer(options.fuzz_seed, options.fuzz_seconds / TARGETS)
    yield fuzzer
    print(fuzzer.summary)


@pytest.fixture
def backend() -> ClearingBackend:
    return ClearingBackend()


@pytest.fixture
def guard(backend: ClearingBackend, directory: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guard]:
    """The process's own guard, which handlers find without being given one."""
    guard = Guard(backend=backend, dir=directory, project="p", flush_timeout=15)
    monkeypatch.setattr(trace_guard.guard, "_default", guard)
    yield guard
    guard.close(timeout=1)
