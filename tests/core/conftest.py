"""Fixtures of these tests."""

from __future__ import annotations

import contextlib
import sys

import pytest
from fixtures import *  # noqa: F403


@pytest.fixture
def freezable() -> None:
    """Import what is lazy in packages that other tests of this process use. freezegun reads every attribute of every
    module, and models of pydantic can't be made while ``datetime`` is a fake."""
    seen: set[str] = set()
    while new := {name for name in sys.modules if name.startswith("aws_lambda_powertools")} - seen:
        seen |= new
        for module in map(sys.modules.get, new):
            for name in dir(module):
                with contextlib.suppress(Exception):
                    getattr(module, name)
