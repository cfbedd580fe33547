"""No extension waits for the end of an endless answer of the Extensions API."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import replace
from typing import Any

import pytest
from misbehaving import Case, MisbehavingServer, by_name
from support import A_WHILE, until

import trace_guard_lambda.extension as internal
import trace_guard_lambda.external.program as external
from trace_guard import Deadline

BUDGET, SLACK = 0.3, 2.0
NAMES = (
    "garbage", "endless status line", "length of 2^63", "1.5 GB", "endless chunks", "endless small chunks",
    "chunk of 2^40", "negative chunk", "endless trailer", "slow headers", "slow body", "slow chunks", "slow chunk size",
    "closes after headers", "resets in the body", "endless 100", "slow endless 100", "endless headers",
    "endless header", "login 100,000 deep",
)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(internal, "_ANSWER_SECONDS", BUDGET)
    monkeypatch.setattr(internal, "_REGISTER_SECONDS", BUDGET)
    monkeypatch.setattr(external, "_ANSWER_SECONDS", BUDGET)


def case(name: str, asks: str) -> Case:
    return replace(by_name(name), asks=asks)


@pytest.mark.parametrize("name", NAMES)
def test_the_external_extension_asks_again(name: str) -> None:
    """The external extension discards an endless answer and asks for the next event."""
    with MisbehavingServer(case(name, "event")) as server:
        api = external.ExtensionsApi(f"127.0.0.1:{server.port}", "extension")
        assert api.register("INVOKE")
        api.ask()
        began = time.monotonic()
        assert api.receive() is None
        assert time.monotonic() - began < BUDGET + SLACK
        server.healthy = True
        api.ask()
        event = api.receive()
        assert event is not None
        assert event["eventType"] == "INVOKE"


@pytest.mark.parametrize("name", NAMES)
def test_the_internal_extension_asks_again(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The internal extension discards an endless answer and works after the next event."""
    done = threading.Event()
    with MisbehavingServer(case(name, "event")) as server:
        extension = internal.Extension(f"127.0.0.1:{server.port}", lambda deadline: done.set())
        extension.begin("identifier")
        until(lambda: len(server.heads) >= 2, BUDGET * 2 + SLACK)
        server.healthy = True
        extension.event_came("1")
        until(lambda: extension.will_deliver and server.bodies)
        until(lambda: extension.runtime_polls() or done.is_set())
        assert done.wait(A_WHILE)
        extension.end()


@pytest.mark.parametrize("name", NAMES)
def test_a_registration_ends(name: str) -> None:
    """An endless answer to a registration counts as no registration after a limited time."""
    with MisbehavingServer(case(name, "register")) as server:
        began = time.monotonic()
        assert internal.register(f"127.0.0.1:{server.port}", lambda deadline: None) is None
        assert time.monotonic() - began < 3 * BUDGET + SLACK


@pytest.mark.parametrize("said", [None, "soon", math.nan, math.inf, -math.inf, -5, 10**400, True, [], 1e300])
def test_an_invalid_deadline_has_expired(said: Any) -> None:
    """A deadline that is not a valid number has expired."""
    assert internal._deadline({"deadlineMs": said}).remaining <= internal._LONGEST_SECONDS


def test_a_deadline_far_away_is_within_a_day() -> None:
    """A deadline years ahead is cut to a day."""
    far = {"deadlineMs": 1000 * (time.time() + 10**8)}
    assert internal._deadline(far) <= Deadline.after(internal._LONGEST_SECONDS)
