"""Clients of a service, all in one process of their own: each sends its next request when it has the answer.

``python benchmarks/client.py URL CLIENTS SECONDS`` prints the requests a second, how many were answered, and the
seconds that each took.
"""

from __future__ import annotations

import json
import re
import selectors
import socket
import subprocess
import sys
import time
from typing import NamedTuple
from urllib.parse import urlsplit

__all__ = ["Answered", "ask"]

_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)\r\n", re.IGNORECASE)


class Answered(NamedTuple):
    """Answers a second within the time asked for; and the seconds of each, of those that came later too."""

    rate: float
    seconds: list[float]


def ask(url: str, clients: int, seconds: float) -> Answered:
    """Ask for ``seconds``, then wait for what is still in flight."""
    command = [sys.executable, __file__, url, str(clients), str(seconds)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return Answered(*json.loads(done.stdout))


class _Client:
    def __init__(self, address: tuple[str, int], request: bytes, selector: selectors.BaseSelector) -> None:
        self._address, self._request, self._selector = address, request, selector
        self._connect()

    def _connect(self) -> None:
        self._socket = socket.create_connection(self._address)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self._socket, selectors.EVENT_READ, self)

    def send(self) -> None:
        self._answer, self._began = b"", time.perf_counter()
        self._socket.sendall(self._request)

    def receive(self) -> float | None:
        """Seconds since the request, once its answer is complete."""
        data = self._socket.recv(65536)
        self._answer += data
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        length = _LENGTH.search(head + b"\r\n")
        if not separator or length is None or len(body) < int(length.group(1)):
            assert data, f"the connection ended after {self._answer!r}"
            return None
        assert head.startswith(b"HTTP/1.1 200"), head
        if b"connection: close" in head.lower():
            self._selector.unregister(self._socket)
            self._socket.close()
            self._connect()
        return time.perf_counter() - self._began


def main(url: str, clients: int, limit: float) -> Answered:
    parts = urlsplit(url)
    request = f"GET {parts.path}?{parts.query} HTTP/1.1\r\nHost: {parts.netloc}\r\n\r\n".encode()
    seconds, in_time, in_flight = [], 0, clients
    with selectors.DefaultSelector() as selector:
        address = (parts.hostname or "", parts.port or 80)
        all_of_them = [_Client(address, request, selector) for _ in range(clients)]
        end = time.perf_counter() + limit
        for client in all_of_them:
            client.send()
        while in_flight:
            for key, _ in selector.select():
                took = key.data.receive()
                if took is None:
                    continue
                seconds.append(took)
                if time.perf_counter() < end:
                    in_time += 1
                    key.data.send()
                else:
                    in_flight -= 1
    return Answered(in_time / limit, seconds)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))))
