"""Whatever a server answers, an invocation ends in its time, and no row is said to be delivered that was not taken."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from fuzzer import Fuzzer
from hypothesis import strategies as st
from support import environment
from values import json_values

from trace_guard import Delivery, Guard, Settings


class Answer(NamedTuple):
    """What is written to a connection once a request has come.

    Attributes:
        pieces: written one after another, with ``pause`` seconds between them.
        closes: whether the connection is closed then; else it stays open until the client goes.
    """

    pieces: tuple[bytes, ...]
    pause: float = 0.0
    closes: bool = True

    @property
    def accepts(self) -> bool:
        """True if there may be a status of success in it."""
        return b" 2" in b"".join(self.pieces)


class OddServer:
    """Answers every request with the same bytes."""

    def __init__(self) -> None:
        self.answer = Answer((b"",))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(connection, self.answer), daemon=True).start()

    def _serve(self, connection: socket.socket, answer: Answer) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(3)
            head = b""
            while b"\r\n\r\n" not in head:
                chunk = connection.recv(1 << 16)
                if not chunk:
                    return
                head += chunk
            waiting = threading.Event()
            for piece in answer.pieces:
                connection.sendall(piece)
                if answer.pause:
                    waiting.wait(answer.pause)
            if not answer.closes:
                while connection.recv(1 << 16):
                    continue


statuses = st.sampled_from([
    b"200 OK", b"204 No Content", b"100 Continue", b"301 Moved", b"307 Temporary Redirect", b"400 Bad Request",
    b"401 Unauthorized", b"403 Forbidden", b"413 Too Large", b"422 Odd", b"429 Slow Down", b"500 Oops",
    b"503 Unavailable", b"599 X", b"999 X", b"000 X", b"-1 X", b"20", b"abc", b"", b"200 \xff\x00",
])
header_values = st.binary(max_size=20).filter(lambda value: b"\n" not in value) | st.sampled_from([
    b"0", b"1", b"-1", b"99999999999999999999", b"1e9", b"NaN", b"chunked", b"gzip", b"deflate", b"br", b"close",
    b"Wed, 21 Oct 2015 07:28:00 GMT", b"Wed, 21 Oct 9999 07:28:00 GMT", b"http://127.0.0.1:9/", b"//", b"file:///",
    b"application/json", b"x" * 70_000,
])
headers = st.lists(st.tuples(
    st.sampled_from([
        b"Content-Length", b"Transfer-Encoding", b"Content-Encoding", b"Retry-After", b"Location", b"Connection",
        b"Content-Type", b"Set-Cookie", b"X", b"", b" Folded",
    ]), header_values,
), max_size=5)
json_bodies = st.builds(
    lambda key, value, rest: json.dumps({**rest, key: value}, default=str).encode(),
    st.sampled_from([
        "org_info", "id", "project", "signedUrl", "headers", "error", "data", "cursor", "logs3_payload_max_bytes",
    ]), json_values | st.lists(st.dictionaries(st.sampled_from(["id", "name", "api_url"]), json_values), max_size=3),
    st.dictionaries(st.sampled_from(["id", "name", "org_id"]), json_values),
)
bodies = st.one_of(
    st.binary(max_size=200), json_bodies, st.builds(lambda times: b"[" * times, st.integers(1, 100_000)),
    st.just(gzip.compress(bytes(20_000_000), 1)),
    st.builds(lambda size, rest: b"%x\r\n%b" % (size, rest), st.integers(0, 2**65), st.binary(max_size=20)),
    st.builds(lambda size: bytes(size), st.integers(1, 4_000_000)),
)


def _answer(
    version: bytes, status: bytes, given: list[tuple[bytes, bytes]], body: bytes, says_length: bool, closes: bool
) -> Answer:
    lines = [b"%b %b" % (version, status), *(b"%b: %b" % pair for pair in given)]
    if says_length:
        lines.append(b"Content-Length: %d" % len(body))
    return Answer((b"\r\n".join(lines) + b"\r\n\r\n", body), 0.0, closes)


ANSWERS = {
    "odd heads": st.builds(
        _answer, st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/9.9", b"", b"ICY"]), statuses, headers, bodies,
        st.booleans(), st.booleans(),
    ) | st.builds(lambda data: Answer((data,)), st.binary(max_size=200)),
    "odd bodies": st.builds(
        lambda body, closes: _answer(b"HTTP/1.1", b"200 OK", [], body, True, closes),
        json_bodies | bodies, st.booleans(),
    ),
    # Of the head, of what goes before it, of the body, of its chunks.
    "without an end": st.builds(
        lambda start, piece, pause: Answer((start, *[piece] * 40), pause),
        st.sampled_from([
            b"HTTP/1.1 200 OK\r\n", b"", b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 500 X\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n",
        ]),
        st.sampled_from([b"X: y\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"a", b"1\r\na\r\n", bytes(200_000)]),
        st.sampled_from([0.0, 0.05]),
    ),
}


@pytest.fixture
def odd_server() -> Iterator[OddServer]:
    server = OddServer()
    yield server
    server.close()


@pytest.mark.parametrize("kind", ANSWERS)
def test_any_answer(fuzzer: Fuzzer, odd_server: OddServer, directory: Path, kind: str) -> None:
    """Any answer to the first requests of a process costs an invocation no more than a second, and without a status of
    success nothing counts as delivered."""

    def check(answer: Answer) -> None:
        odd_server.answer = answer
        shutil.rmtree(directory, ignore_errors=True)
        variables = environment(
            None, directory, TRACE_GUARD_PROJECT_ID="", TRACE_GUARD_PROJECT="p", BRAINTRUST_APP_URL=odd_server.url,
        )
        guard = Guard(Settings.from_env(variables, flush_timeout=0.2))
        try:
            with guard.invocation("f", input={"n": 1}) as invocation:
                pass
            assert invocation.delivery is not None
            if invocation.delivery.verdict is Delivery.DELIVERED:
                assert answer.accepts
        finally:
            guard.close(timeout=0.05)

    fuzzer.run(ANSWERS[kind], check)
