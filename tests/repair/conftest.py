from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from stuck import PROJECT

from trace_guard.testing import BraintrustServer


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer(api_keys=["key"]) as server:
        server.add_project(PROJECT, "P")
        yield server


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "trace-guard"
