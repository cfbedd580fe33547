"""A pytest plugin with the fixture and the marker ``fail_on_open_spans``, for pytest with pluggy 1.2 and later.

pytest finds it where trace-guard is installed. It does not import the Braintrust SDK before a test needs it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import pytest

__all__ = ["fail_on_open_spans"]

_NAME = "fail_on_open_spans"


def _wrapper(function: Any) -> Any:
    try:
        return pytest.hookimpl(wrapper=True)(function)
    except TypeError:  # an older pluggy: a plugin that can't be imported would end every run of pytest
        return None


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{_NAME}: the test fails if it leaves a span open")


@_wrapper
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker(_NAME) is None and _NAME not in getattr(item, "fixturenames", ()):
        return (yield)
    from .open_spans import fail_on_open_spans as block

    with block():
        return (yield)


@pytest.fixture
def fail_on_open_spans() -> None:
    """Fail the test if its code leaves a span open."""
    # The hook does it, so that the test fails and not its teardown.
    if pytest_runtest_call is None:
        pytest.fail("fail_on_open_spans needs pluggy 1.2 or later")
