"""Fixtures of these tests: function apps in Microsoft's own runtime, in separate processes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azure_host.deployment import Deployments
from fixtures import *  # noqa: F403


@pytest.fixture(scope="module")
def deploy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployments]:
    """Makes deployments for the tests of a module. A fault of ours in any of their workers is an error."""
    with Deployments(tmp_path_factory.mktemp("azure")) as deployments:
        yield deployments
