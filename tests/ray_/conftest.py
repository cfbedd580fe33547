"""Fixtures of the Ray tests: one driver for all of them, as it takes seconds to start."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from fixtures import *  # noqa: F403
from ray_.driver import Driver

from trace_guard.testing import BraintrustServer

pytest.register_assert_rewrite("contract.suite")

# Clusters of their own take long to start. `make chaos` runs these files by their names.
collect_ignore = ["test_ray_nodes.py", "test_ray_shutdown.py", "test_reap_at_scale.py"]


@pytest.fixture(scope="session")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Driver]:
    with BraintrustServer(latency=0.02) as server:
        driver = Driver(server, tmp_path_factory.mktemp("ray"))
        with driver.program:
            yield driver
