"""Options of the whole test suite."""

from __future__ import annotations

import compileall
import functools
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import planted_keys
import pytest
from hypothesis import settings
from planted_keys import finds_in, holds_key

from trace_guard.deadline import Deadline
from trace_guard.delivery.handover import MEMORY
from trace_guard.runtime.state import PROCESS
from trace_guard.testing import CloudRunSandbox, LambdaSandbox

REPOSITORY = Path(__file__).parent.parent

# How long an example takes says more about the machine than about the code.
settings.register_profile("trace-guard", deadline=None)
settings.load_profile("trace-guard")

# Files that keep a worker for half a minute or more. They begin first, so that nobody waits for the last of them.
LONG = (
    "test_airflow", "test_ray", "test_gateway", "test_gcf_contract", "test_containment", "test_concurrency",
    "test_sdk_releases", "test_deaths", "test_courier_outages", "test_lambda_runtime", "test_external_extension",
    "test_demo", "test_cli", "test_after_response", "test_emulator", "test_shutdown", "test_entry", "test_chaos",
    "test_layer", "test_supervised_deaths", "test_recovery", "test_integrations", "test_direct", "test_rooms",
    "test_user_code", "test_live_load",
)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chaos")
    group.addoption("--chaos-runs", type=int, default=10, help="how many processes are killed at random instants")
    group.addoption("--chaos-seed", type=int, default=None, help="repeat the run that printed this seed")
    parser.addoption("--live-seconds", type=float, default=10.0, help="how long the reaper runs beside a live load")
    parser.addoption("--journals", type=int, default=400, help="how many journals of dead processes are recovered")
    group = parser.getgroup("fuzz")
    group.addoption("--fuzz-seconds", type=float, default=10.0, help="how long generated input is tried, in all")
    group.addoption("--fuzz-seed", type=int, default=1, help="of the first round; another one tries other input")
    parser.addoption("--all-releases", action="store_true", help="all tests of the SDK with each of its releases")


def pytest_configure(config: pytest.Config) -> None:
    planted_keys.pytest_configure(config)
    # A shell starts background commands with SIGINT and SIGQUIT ignored, and children inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(signal, "SIGQUIT"):  # not on Windows
        signal.signal(signal.SIGQUIT, signal.SIG_DFL)
    # Programs that tests start write no bytecode, and without any each of them compiles the package anew.
    if not hasattr(config, "workerinput"):
        for place in (REPOSITORY / "trace_guard", REPOSITORY / "adapters"):
            if place.is_dir():
                compileall.compile_dir(place, quiet=1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session", autouse=True)
def sandboxes_are_searched() -> Iterator[None]:
    """A sandbox that has a key in its log or its temporary directory when it is closed fails the test."""

    def searching(close: Callable[[Any], None]) -> Callable[[Any], None]:
        @functools.wraps(close)
        def search_and_close(sandbox: Any) -> None:
            found: list[str] = []
            try:
                if sandbox.tmp.exists():  # else it is closed already
                    found += ["its log"] if holds_key(sandbox.log.encode()) else []
                    found += map(str, finds_in(sandbox.tmp))
            finally:
                close(sandbox)
            assert not found, f"an API key was left in {', '.join(found)}"

        return search_and_close

    with pytest.MonkeyPatch.context() as patch:
        for kind in (LambdaSandbox, CloudRunSandbox):
            patch.setattr(kind, "close", searching(kind.close))
        yield


@pytest.fixture(autouse=True)
def starts_alone() -> Iterator[None]:
    """Close guards and reset the SDK's login after each test: rows of no invocation would go where an earlier test's
    guard or login sends them."""
    yield
    for pipeline in PROCESS.logins.guards:
        PROCESS.close(pipeline, Deadline.after(0.2))
    MEMORY.reset()  # rows of couriers that a test has dropped count no more
    if "braintrust" in sys.modules:
        sys.modules["braintrust"].logger._internal_reset_global_state()
