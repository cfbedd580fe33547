"""Fixtures of these tests."""

from __future__ import annotations

import pytest
from fixtures import *  # noqa: F403
from supervised import needs_linux


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/supervisor/" in item.path.as_posix():
            item.add_marker(needs_linux)
