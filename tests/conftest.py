"""Options of the whole test suite."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--chaos-runs", type=int, default=25, help="how many processes are killed at random instants")
    group.addoption("--chaos-seed", type=int, default=None, help="repeat the run that printed this seed")
