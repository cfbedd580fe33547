"""Connection pools that keep to the bound of each exchange, also through proxies.

A socket's timeout limits one operation. To limit a whole exchange, each operation gets the remaining time:
connecting to each address of a host, sending each piece of a request, and each read of the answer.
"""

from __future__ import annotations

import contextlib
import functools
import os
import queue
import socket
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

# Imported here, not later in the courier's thread: if a process forks while a thread imports a module, importing
# it never ends in the child.
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, prepend_scheme_if_needed, select_proxy
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError
from urllib3.util.connection import allowed_gai_family

from ..system.threads import QuietThread
from .bounded_answer import Bound, BoundedAnswer
from .own_traffic import untraced

if TYPE_CHECKING:
    from urllib3.connectionpool import HTTPConnectionPool

__all__ = ["CONNECT_SECONDS", "bounded_by", "pools_for", "proxy_for"]

CONNECT_SECONDS = 3.0
# The courier has at most four requests to a host in flight.
_POOL = 4
_ADDRESSES = 8
# The size of a TLS record. Python writes a buffer record by record, and each write may take the whole timeout.
_PIECE = 16 * 1024
# The variables that requests reads, see urllib.request.getproxies_environment.
_PROXY_VARIABLES = (
    *(f"{name}_proxy" for name in ("http", "https", "all", "no")),
    *(f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")), "REQUEST_METHOD",
)

_CONNECTION = "BoundedConnection"

_bound: ContextVar[Bound | None] = ContextVar("trace_guard_bound", default=None)


@contextlib.contextmanager
def bounded_by(bound: Bound) -> Iterator[None]:
    """Connections that are used within the block keep to this bound."""
    token = _bound.set(bound)
    try:
        with untraced(f"{__name__}.{_CONNECTION}"):
            yield
    finally:
        _bound.reset(token)


def proxy_for(root: str) -> str:
    """The environment's proxy for a server; empty for none."""
    return _proxy(root, tuple(map(os.environ.get, _PROXY_VARIABLES)))


@functools.lru_cache(maxsize=128)  # it scans the whole environment several times
def _proxy(root: str, environment: tuple[str | None, ...]) -> str:
    return select_proxy(root, get_environ_proxies(root)) or ""


def pools_for(proxy: str) -> PoolManager:
    """Pools of bounded connections, through a proxy if there is one."""
    if proxy:
        # Created by requests, which supports credentials in the proxy's URL, and SOCKS.
        adapter = HTTPAdapter(pool_connections=_POOL, pool_maxsize=_POOL)
        proxy_url = prepend_scheme_if_needed(proxy, "http")  # type: ignore[no-untyped-call]
        manager: PoolManager = adapter.proxy_manager_for(proxy_url, **_certificates())
    else:
        manager = PoolManager(num_pools=_POOL, maxsize=_POOL, **_certificates())
    manager.pool_classes_by_scheme = {
        scheme: _bounded_pool(plain) for scheme, plain in manager.pool_classes_by_scheme.items()
    }
    return manager


@functools.cache
def _bounded_pool(plain: type[HTTPConnectionPool]) -> type[HTTPConnectionPool]:
    connection = type(_CONNECTION, (_Bounded, plain.ConnectionCls), {})
    return type(f"Bounded{plain.__name__}", (plain,), {"ConnectionCls": connection})


class _Bounded:
    """A mixin for urllib3's connection classes."""

    sock: Any
    host: str
    port: int
    timeout: Any
    _dns_host: str

    def response_class(self, sock: Any, *args: Any, **keywords: Any) -> Any:
        """Reads answers within the bound, including a proxy's answer to CONNECT."""
        bound = _bound.get()
        assert bound is not None, "a connection is used outside of bounded_by()"
        return BoundedAnswer(sock, *args, bound=bound, **keywords)

    def send(self, data: Any) -> None:
        bound = _bound.get()
        if bound is None or not isinstance(data, (bytes, bytearray, memoryview)):
            super().send(data)  # type: ignore[misc]
            return
        view = memoryview(data)
        for at in range(0, len(view), _PIECE):
            if self.sock is not None:  # otherwise the connection is made now, with its own bound
                self.sock.settimeout(bound.timeout)
            super().send(view[at : at + _PIECE])  # type: ignore[misc]

    def _new_conn(self) -> Any:
        """Connect to one of the host's addresses, which share the remaining time."""
        bound = _bound.get()
        plain = super()._new_conn  # type: ignore[misc]
        if bound is None or getattr(plain, "__func__", None) is not HTTPConnection._new_conn:
            return plain()  # a SOCKS proxy may resolve names itself
        host, timeout = self._dns_host, self.timeout
        try:
            addresses = _addresses(host, self.port, bound.timeout)
            if not addresses:
                raise OSError("it has no address")
            for place, address in enumerate(addresses):
                waiting = len(addresses) - place
                self._dns_host, self.timeout = address, _share(bound, waiting)
                try:
                    connection = plain()
                except (ConnectTimeoutError, NewConnectionError):
                    if waiting == 1:
                        raise
                    continue
                connection.settimeout(_share(bound))  # for the TLS handshake
                return connection
        except TimeoutError as error:
            raise ConnectTimeoutError(self, f"no connection to {self.host} in time: {error}") from error
        except (OSError, UnicodeError) as error:
            said = f"{self.host} could not be looked up: {error}"
            raise NewConnectionError(self, said) from error  # type: ignore[arg-type]
        finally:
            self._dns_host, self.timeout = host, timeout


def _addresses(host: str, port: int, seconds: float | None) -> list[str]:
    """The first few addresses of a host.

    The resolver has no timeout, so a thread waits for it and is abandoned when time is up. While the interpreter exits,
    no thread can be started, and the caller waits.

    Raises:
        OSError: there is no address, or (as TimeoutError) none was found in time.
    """
    found: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def look() -> None:
        try:
            found.put(socket.getaddrinfo(host.strip("[]"), port, allowed_gai_family(), socket.SOCK_STREAM))
        except Exception as error:  # noqa: BLE001 - raised in the caller's thread
            found.put(error)

    if _is_address(host):
        return [host]
    try:
        QuietThread(target=look, name="trace-guard-resolver", daemon=True).start()
    except RuntimeError:
        look()
    try:
        result = found.get(timeout=seconds)
    except queue.Empty:
        raise TimeoutError("its name was not resolved") from None
    if isinstance(result, Exception):
        raise result
    return list(dict.fromkeys(str(entry[4][0]) for entry in result))[:_ADDRESSES]


def _share(bound: Bound, among: int = 1) -> float:
    """The seconds for one of several steps."""
    left = bound.timeout
    return CONNECT_SECONDS if left is None else min(CONNECT_SECONDS, left / among)


def _is_address(host: str) -> bool:
    for family in (socket.AF_INET, socket.AF_INET6):
        with contextlib.suppress(OSError, ValueError):
            socket.inet_pton(family, host.strip("[]"))
            return True
    return False


def _certificates() -> dict[str, Any]:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        path = os.environ.get(variable)
        if path and os.path.isdir(path):
            return {"cert_reqs": "CERT_REQUIRED", "ca_cert_dir": path}
        if path and os.path.isfile(path):
            return {"cert_reqs": "CERT_REQUIRED", "ca_certs": path}
    return {"cert_reqs": "CERT_REQUIRED", "ca_certs": DEFAULT_CA_BUNDLE_PATH}
