"""Proxies and certificates, which come from the environment as ``requests`` reads it."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures import MakeGuard
from planted_keys import PLANTED_KEY

from trace_guard import Deadline, Delivery
from trace_guard.testing import BraintrustServer
from trace_guard.testing.http_wire import Request, Response
from trace_guard.testing.loopback import LoopbackServer


class Relay(LoopbackServer):
    """Hands every connection on to a server: a TLS endpoint with a certificate, or a proxy that takes CONNECT.

    Attributes:
        connects: where clients asked to be connected to, and with which credentials.
    """

    def __init__(self, target: str, certificate: Path | None = None) -> None:
        self.connects: list[tuple[str, str | None]] = []
        self._target = target
        self._context = None
        if certificate is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)
        super().__init__()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def respond(self, request: Request) -> Response | None:
        raise NotImplementedError

    def _serve(self, connection: socket.socket) -> None:
        try:
            with contextlib.suppress(OSError):
                self._relay(connection)
        finally:
            with self._connections_lock:
                connection.close()
                self._connections.pop(threading.current_thread()).close()

    def _relay(self, connection: socket.socket) -> None:
        target = self._target
        if self._context is not None:
            connection = self._context.wrap_socket(connection, server_side=True)
            with self._connections_lock:
                self._connections[threading.current_thread()] = connection
        else:
            lines = []
            with connection.makefile("rb") as reader:
                while line := reader.readline().strip():
                    lines.append(line.decode())
            fields = dict(line.lower().split(": ", 1) if ": " in line else (line, "") for line in lines[1:])
            method, where, _ = lines[0].split()
            assert method == "CONNECT"
            original = next((line for line in lines if line.lower().startswith("proxy-authorization: ")), None)
            assert (original is None) == ("proxy-authorization" not in fields)
            self.connects.append((where, original.split(": ", 1)[1] if original else None))
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
        host, port = target.split(":")
        with socket.create_connection((host, int(port))) as other:
            back = threading.Thread(target=_pump, args=(other, connection), daemon=True)
            back.start()
            _pump(connection, other)
            back.join()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a self-signed certificate for 127.0.0.1, in one file."""
    directory = tmp_path_factory.mktemp("certificate")
    try:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=loopback",
             "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", directory / "key", "-out", directory / "ca.pem"],
            check=True, capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("there is no openssl to make a certificate with")
    both = directory / "both.pem"
    both.write_bytes((directory / "key").read_bytes() + (directory / "ca.pem").read_bytes())
    return both


@pytest.fixture
def ca(certificate: Path) -> Path:
    return certificate.with_name("ca.pem")


@pytest.fixture
def secure(server: BraintrustServer, certificate: Path) -> Iterator[Relay]:
    """The same server, by TLS."""
    with Relay(server.address, certificate) as relay:
        yield relay


def delivery_to(url: str, make_guard: MakeGuard) -> Delivery:
    guard = make_guard(api_url=url, linger=60)
    with guard.invocation("root") as invocation:
        pass
    assert invocation.delivery is not None
    return invocation.delivery


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_plain_http_goes_through_the_proxy(
    server: BraintrustServer, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """With HTTP_PROXY, with or without a scheme, a host that only the proxy can reach is delivered to."""
    monkeypatch.setenv("HTTP_PROXY", f"{scheme}{server.address}")
    assert delivery_to("http://braintrust.invalid", make_guard).verdict is Delivery.DELIVERED
    (request,) = server.requests
    assert (request.path, request.authorization) == ("/logs3", f"Bearer {PLANTED_KEY}")
    assert len(server.span_rows()) == 1


def test_no_proxy_is_heeded(
    server: BraintrustServer, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that NO_PROXY names is reached directly although there is a proxy, which is dead."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    assert delivery_to(server.url, make_guard).verdict is Delivery.DELIVERED


def test_a_dead_proxy_costs_no_rows(
    server: BraintrustServer, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the proxy is down rows are kept, and they arrive once no proxy is set."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    guard = make_guard(linger=60)
    with guard.invocation("root") as invocation:
        pass
    assert invocation.delivery is not None
    assert invocation.delivery.verdict is Delivery.SPOOLED
    monkeypatch.delenv("HTTP_PROXY")
    assert guard.pipeline.courier.drain(Deadline.after(10), force=True)
    assert len(server.span_rows()) == 1


def test_https_goes_through_the_proxy_with_its_credentials(
    server: BraintrustServer, secure: Relay, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch, ca: Path
) -> None:
    """With HTTPS_PROXY the connection is a tunnel, for which the proxy gets the credentials in its URL."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(ca))
    with Relay(secure.address) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://user:pass%20word@{proxy.address}")
        url = f"https://{secure.address}"
        assert delivery_to(url, make_guard).verdict is Delivery.DELIVERED
        assert proxy.connects == [(secure.address, f"Basic {b64encode(b'user:pass word').decode()}")]
    assert len(server.span_rows()) == 1


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_certificates_of_one_s_own_are_trusted(
    server: BraintrustServer, secure: Relay, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch, ca: Path,
    variable: str
) -> None:
    """A certificate authority that the environment names is trusted."""
    monkeypatch.setenv(variable, str(ca))
    assert delivery_to(f"https://{secure.address}", make_guard).verdict is Delivery.DELIVERED
    assert len(server.span_rows()) == 1


def test_a_directory_of_certificates_is_trusted(
    server: BraintrustServer, secure: Relay, make_guard: MakeGuard, monkeypatch: pytest.MonkeyPatch, ca: Path,
    tmp_path: Path
) -> None:
    """REQUESTS_CA_BUNDLE may name a directory of certificates, too."""
    digest = subprocess.check_output(["openssl", "x509", "-hash", "-noout", "-in", ca], text=True).strip()
    (tmp_path / "certificates").mkdir()
    (tmp_path / "certificates" / f"{digest}.0").write_bytes(ca.read_bytes())
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "certificates"))
    assert delivery_to(f"https://{secure.address}", make_guard).verdict is Delivery.DELIVERED
    assert len(server.span_rows()) == 1


def test_a_certificate_that_nobody_vouches_for_is_not_trusted(
    server: BraintrustServer, secure: Relay, make_guard: MakeGuard
) -> None:
    """The key is not sent to a server with an untrusted certificate, and rows are kept."""
    delivery = delivery_to(f"https://{secure.address}", make_guard)
    assert delivery.verdict is Delivery.SPOOLED
    assert "certificate verify failed" in str(delivery.error)
    assert server.requests == []
