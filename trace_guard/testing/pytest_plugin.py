"""A pytest plugin with the fixture and the marker ``fail_on_open_spans``.

Name it in the ``conftest.py`` at the root of the tests: ``pytest_plugins = ["trace_guard.testing.pytest_plugin"]``. It
is no entry point, as pytest would then import it in every run.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from .open_spans import fail_on_open_spans as failing_on_open_spans

__all__ = ["fail_on_open_spans"]

_NAME = "fail_on_open_spans"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{_NAME}: the test fails if it leaves a span open")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    if item.get_closest_marker(_NAME) is None and _NAME not in getattr(item, "fixturenames", ()):
        return (yield)
    with failing_on_open_spans():
        return (yield)


@pytest.fixture
def fail_on_open_spans(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test if it leaves a span open. Where only this fixture is imported, the test has an error at its end."""
    if request.config.pluginmanager.has_plugin(__name__):
        yield
    else:
        with failing_on_open_spans():
            yield
