"""Whatever a server answers, a delivery ends in time with the right verdict, takes little memory and costs no row."""

from __future__ import annotations

import functools
import json
import math
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import braintrust
import pytest
from braintrust import Attachment
from misbehaving import BUDGET, CASES, Case, MisbehavingServer, by_name
from pytest_mock import MockerFixture
from support import PROJECT_ID, environment, settings_for, until

from trace_guard import Deadline, Delivery, Guard, Settings
from trace_guard.backends.memory import MemoryBackend
from trace_guard.backends.transport import Transport, retry_after_of
from trace_guard.delivery.breaker import bounded_retry_after
from trace_guard.delivery.courier import Courier
from trace_guard.errors import BackendUnavailable

# How late a thread of ours may be on a machine that has much to do.
SLACK = 2.0
MOST_GROWTH = 64 << 20


@pytest.fixture(scope="module")
def outcomes() -> Any:
    """The results of a delivery to each server, made in another process."""
    program = Path(__file__).parents[1] / "misbehaving.py"
    # One arena: what threads allocate and free is not counted for each of them.
    environ = {**os.environ, "MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(
        [sys.executable, program], capture_output=True, text=True, timeout=120, check=True, env=environ
    )
    return json.loads(done.stdout)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name[:60])
def test_a_delivery_ends_in_time_with_the_right_verdict(outcomes: Any, case: Case) -> None:
    """A server that misbehaves delays a delivery no longer than its deadline, and the next delivery arrives."""
    found = outcomes["cases"][case.name]
    assert found["verdict"] == case.verdict
    assert found["seconds"] < BUDGET + SLACK
    assert found["again"] == (None if case.scheme == "https" else "delivered")


def test_no_answer_takes_memory(outcomes: Any) -> None:
    """Deliveries to all of them, eight at a time, take less memory than one large answer has."""
    assert outcomes["growth"] < MOST_GROWTH


def test_the_key_goes_nowhere_else(outcomes: Any) -> None:
    """Neither a redirect nor a login leads a request to another server."""
    assert outcomes["trapped"] == []


@pytest.mark.parametrize("name", [
    "slow body", "slow endless 100", "endless chunks", "gzip bomb", "1.5 GB", "never answers", "takes no request",
    "endless 401", "301 elsewhere", "Retry-After b'1000000000'", "login 100,000 deep", "login to 'file:///etc/passwd'",
])
def test_an_invocation_is_not_affected(
    name: str, directory: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """An invocation returns in time, its rows are kept, and they arrive once the server works."""
    monkeypatch.setattr("trace_guard.delivery.breaker.LONGEST_RETRY_AFTER", 0.5)
    with MisbehavingServer(by_name(name)) as server:
        variables = environment(None, directory, BRAINTRUST_APP_URL=server.url)
        if by_name(name).asks == "send":
            variables["BRAINTRUST_API_URL"] = server.url
        monkeypatch.setattr("trace_guard.runtime.pipeline.Courier", functools.partial(Courier, send_seconds=0.5))
        guard = Guard(Settings.from_env(variables, flush_timeout=0.3, linger=0.0))
        request.addfinalizer(lambda: guard.close(timeout=1))
        began = time.monotonic()
        with guard.invocation("root") as invocation:
            result = "its own"
        assert (result, time.monotonic() - began < 0.3 + SLACK) == ("its own", True)
        assert invocation.delivery is not None
        assert invocation.delivery.verdict is Delivery.SPOOLED
        server.healthy = True
        assert guard.pipeline.courier.drain(Deadline.after(20), force=True)
        sent = b"".join(server.bodies)
        assert b'"name":"root"' in sent
        assert PROJECT_ID.encode() in sent


def test_malformed_headers_are_not_logged(mocker: MockerFixture) -> None:
    """urllib3 does not log malformed headers, and with them the URL that was asked for and its signature."""
    # The SDK may hold back what urllib3 logs, so its logger is no witness.
    warning = mocker.patch("urllib3.connection.log.warning")
    with MisbehavingServer(by_name("headers without a colon")) as server:
        url = f"{server.url}/logs3?signature=secret"
        assert Transport().request("POST", url, b"", {}, Deadline.after(5)).status == 200
    warning.assert_not_called()


# Names and addresses


def test_a_resolver_that_hangs_holds_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up of a host name that takes too long fails at the deadline."""
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: over.wait(20) and [])
    began = time.monotonic()
    with pytest.raises(BackendUnavailable, match="not resolved"):
        Transport().request("GET", "http://slow.invalid/", b"", {}, Deadline.after(BUDGET / 2))
    assert time.monotonic() - began < BUDGET / 2 + SLACK
    over.set()


def test_addresses_share_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of a host's addresses is tried although none of those before answers, before the deadline."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, MisbehavingServer(by_name("204")) as server:
        # A listener whose queue is full takes no connection, and refuses none.
        full_port = full.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for one in waiting:
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", full_port))
        plain = socket.socket.connect

        def connect(self: socket.socket, address: Any) -> None:
            plain(self, ("127.0.0.1", full_port) if address[0] != "127.0.0.1" else address)

        monkeypatch.setattr(socket.socket, "connect", connect)
        found = [*(f"127.0.0.{last}" for last in range(2, 6)), "127.0.0.1"]
        monkeypatch.setattr(
            "trace_guard.backends.connections.socket.getaddrinfo",
            lambda host, port, *rest: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in (
                [host] if host in found else found
            )],
        )
        began = time.monotonic()
        url = server.url.replace("127.0.0.1", "many.invalid") + "/logs3"
        assert Transport().request("POST", url, b"", {}, Deadline.after(3 * BUDGET)).status == 204
        assert time.monotonic() - began < 3 * BUDGET + SLACK
        for one in waiting:
            one.close()


# Retry-After


@pytest.mark.parametrize(("header", "seconds"), [
    (None, None), ("", None), ("0", 0.0), (" 7 ", 7.0), ("9" * 400, math.inf), ("9" * 10_000, math.inf), ("-5", None),
    ("nan", None), ("inf", None), ("1e9", None), ("\u0663", None), ("\u00b2", None), ("1, 2", None), ("soon", None),
    ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0), ("Fri, 31 Dec 99999 23:59:59 GMT", None), ("," * 5000, None),
])
def test_what_a_header_asks_for(header: str | None, seconds: float | None) -> None:
    """Any value of Retry-After is read as a non-negative number of seconds or as None."""
    assert retry_after_of(header) == seconds


@pytest.mark.parametrize(("asked", "granted"), [
    (None, 0.0), (7.0, 7.0), (60.1, 60.0), (1e12, 60.0), (10**400, 60.0), (math.inf, 60.0), (-5, 0.0), (-math.inf, 0.0),
    (math.nan, 0.0),
])
def test_a_wish_is_granted_for_a_minute_at_most(asked: float | None, granted: float) -> None:
    """A pause that a server asks for is respected for a minute at most."""
    assert bounded_retry_after(asked) == granted


def test_attachments_are_not_held_back_for_years(monkeypatch: pytest.MonkeyPatch, directory: Path) -> None:
    """An attachment with an absurd Retry-After is uploaded after the longest pause that is respected."""
    monkeypatch.setattr("trace_guard.delivery.breaker.LONGEST_RETRY_AFTER", 0.2)

    class Busy(MemoryBackend):
        asked = 0

        def attach(self, one: Any, deadline: Deadline) -> None:
            self.asked += 1
            if self.asked == 1:
                raise BackendUnavailable("busy", retry_after=1e9)
            super().attach(one, deadline)

    backend = Busy()
    guard = Guard(settings_for(None, directory, flush_timeout=0.0), backend=backend)
    with guard.invocation("root") as invocation:
        invocation.span.log(input=Attachment(data=b"data", filename="a", content_type="text/plain"))
        braintrust.flush()
    until(lambda: backend.asked == 2, 10)
    guard.close(timeout=1)


# Object stores


@pytest.mark.parametrize(("status", "location", "status_after"), [
    (307, "{store}/other", 200), (301, "/same", 200), (303, "{store}/other", 303), (307, "file:///etc/passwd", 307),
    (307, "http://[", 307), (307, "", 307),
])
def test_redirects_are_followed_without_credentials(status: int, location: str, status_after: int) -> None:
    """An upload follows redirects to http and https, and its credentials are not sent to another host."""
    with MisbehavingServer(by_name("401")) as store:
        store.healthy = True
        where = location.replace("{store}", store.url)
        steps = b"HTTP/1.1 %d Moved\r\nLocation: %s\r\nContent-Length: 0\r\n\r\n" % (status, where.encode())
        with MisbehavingServer(Case("moved", steps, asks="upload")) as first:
            headers = {"Authorization": "signed", "Content-Length": "4"}
            answer = Transport().request(
                "PUT", f"{first.url}/upload", [b"da", b"ta"], headers, Deadline.after(5), follow=True
            )
            assert answer.status == status_after
            assert all(b"authorization" not in head.lower() for head in store.heads)
            assert (store.bodies == [b"data"]) is ("{store}" in location and status_after == 200)
