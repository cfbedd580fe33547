"""Fixtures of the contract: a server, a guard that delivers to it, and the subjects."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import braintrust
import pytest
from fixtures import *  # noqa: F403
from support import PROJECT_ID

import trace_guard
from trace_guard import Guard
from trace_guard.testing import BraintrustServer

pytest.register_assert_rewrite("contract.suite")


@pytest.fixture
def guard(
    server: BraintrustServer, directory: Path, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch  # noqa: F405
) -> Iterator[Guard]:
    """The guard of these tests, also the default guard. Restores the SDK afterwards."""
    server.add_project("project", PROJECT_ID)
    monkeypatch.setenv("TRACE_GUARD_DIR", str(directory))
    guard = make_guard()
    monkeypatch.setattr(trace_guard.guard, "_default", guard)
    yield guard
    assert braintrust.current_span() is braintrust.NOOP_SPAN, "a span is still current"
    assert trace_guard.current_invocation() is None
