"""A pytest plugin that puts a guard under the SDK's own tests: ``SDK_SUITE_MODE`` is ``plain``, ``gateway`` or
``invocation``.

Each test gets a guard of its own, as each of them makes the SDK's state anew: it starts like a process with the guard.
No test reaches any network but loopback, in no mode, so that all modes fail alike there.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import socket
from collections.abc import Generator
from typing import Any

import pytest

MODE = os.environ["SDK_SUITE_MODE"]


def pytest_configure(config: pytest.Config) -> None:
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connect_nearby(self: socket.socket, address: Any) -> None:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not ipaddress.ip_address(address[0]).is_loopback:
            raise ConnectionRefusedError(f"{address[0]} is not on loopback")
        connect(self, address)

    def look_up_nearby(host: Any, *args: Any, **options: Any) -> Any:
        if host not in (None, "", "localhost", "testserver") and not _is_address(host):
            raise socket.gaierror(socket.EAI_NONAME, f"{host} is not on loopback")
        return look_up(host, *args, **options)

    socket.socket.connect = connect_nearby  # type: ignore[method-assign,assignment]
    socket.getaddrinfo = look_up_nearby


def _is_address(host: str | bytes) -> bool:
    with contextlib.suppress(ValueError):
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
        return True
    return False


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, None, None]:
    """The guard, and in one mode an invocation, are around everything of a test, its fixtures too."""
    if MODE == "plain":
        yield
        return
    from trace_guard import Guard
    from trace_guard.backends.memory import MemoryBackend

    guard = Guard(backend=MemoryBackend(), project="trace-guard").start()
    try:
        if MODE == "invocation":
            with guard.invocation(item.name):
                yield
        else:
            yield
    finally:
        guard.close(timeout=1)
