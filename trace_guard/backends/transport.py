"""HTTP with a deadline: every attempt and every pause between attempts ends with it."""

from __future__ import annotations

import functools
import os
import random
import threading
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

# Not later, in the courier's thread: a process that forks while another thread imports has a child in which that
# import never ends.
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, get_environ_proxies, prepend_scheme_if_needed, select_proxy
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError, InvalidHeader, MaxRetryError, ProtocolError, ReadTimeoutError
from urllib3.util.retry import Retry

from ..deadline import Deadline
from ..errors import BackendUnavailable

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

__all__ = ["Answer", "Transport"]

_CONNECT_SECONDS = 3.0
ATTEMPTS = 3
_BACKOFF = 0.1
_IDLE_SECONDS = 60.0
_POOL = 4
# What requests looks at, see urllib.request.getproxies_environment.
_PROXY_VARIABLES = (
    *(f"{name}_proxy" for name in ("http", "https", "all", "no")),
    *(f"{name}_PROXY" for name in ("HTTP", "HTTPS", "ALL", "NO")), "REQUEST_METHOD",
)
_REDIRECTS_ONLY = Retry(3, connect=0, read=0, status=0, other=0, respect_retry_after_header=False)
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})


class Answer(NamedTuple):
    """What a server said.

    ``unsure`` is true if the request had been sent before without a good answer, so that it may arrive once more.
    """

    status: int
    body: bytes
    unsure: bool = False

    @property
    def text(self) -> str:
        """The beginning of the body, for an error message."""
        return self.body[:300].decode("utf-8", "replace").strip()


class Transport:
    """Requests over kept-alive connections. Thread-safe; a forked child makes connections of its own.

    Proxies and certificates come from the environment, as ``requests`` reads it: ``HTTPS_PROXY``,
    ``HTTP_PROXY``, ``NO_PROXY``, ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE``, and ``SSL_CERT_FILE``.
    """

    def __init__(self) -> None:
        self._managers: dict[str, PoolManager] = {}
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._used_at = 0.0

    def request(
        self, method: str, url: str, body: bytes | Iterable[bytes], headers: Mapping[str, str], deadline: Deadline,
        *, follow: bool = False, attempts: int = ATTEMPTS,
    ) -> Answer:
        """Send a request that may safely arrive twice, again if need be.

        Args:
            body: if it comes in pieces they are iterated over for each attempt, and the headers have their length.
            follow: go where a redirect leads, with the same headers; not for requests that carry a key.
            attempts: how often it is sent at most.

        Raises:
            BackendUnavailable: no answer before the deadline, or only answers that mean "later" (408, 425,
                429, 5xx); with the seconds to wait in ``retry_after`` if the server said so.
        """
        self._drop_idle()
        policy = Retry(total=attempts - 1, backoff_factor=_BACKOFF, allowed_methods=None)
        reconnects, sent, suspect = 1, 0, False
        while True:
            sent += 1
            left = deadline.remaining
            if left <= 0:
                raise BackendUnavailable(f"no answer from {_host(url)} in time", suspect_rows=suspect)
            retry_after: float | None = None
            try:
                response = self._manager(url).urlopen(
                    method, url, body=body, headers=dict(headers), redirect=follow,
                    retries=_REDIRECTS_ONLY if follow else False,
                    timeout=Timeout(connect=min(left, _CONNECT_SECONDS), total=left),
                )
                self._used_at = time.time()
                if response.status not in _RETRIED:
                    return Answer(response.status, response.data, unsure=sent > 1)
                retry_after, suspect = _retry_after(policy, response), response.status >= 500
                trouble = f"{_host(url)} answered {response.status}: {Answer(0, response.data).text}"
            except HTTPError as error:
                trouble, suspect = f"{_host(url)} did not answer: {_plain(error)}", _was_sent(error)
                if reconnects and _is_stale(error):
                    # The other side closed the connection while the process was frozen, which is a fault of
                    # neither: connect anew, at once. Once only, as a server may also drop every request.
                    reconnects -= 1
                    continue
            try:
                policy = policy.increment(method, url)
            except MaxRetryError:
                raise BackendUnavailable(trouble, retry_after=retry_after, suspect_rows=suspect) from None
            pause = policy.get_backoff_time() + random.uniform(0, _BACKOFF)
            pause = pause if retry_after is None else max(pause, retry_after)
            if pause >= deadline.remaining:
                raise BackendUnavailable(trouble, retry_after=retry_after, suspect_rows=suspect)
            time.sleep(pause)

    def close(self) -> None:
        """Close idle connections. New ones are made when they are needed."""
        with self._lock:
            managers, self._managers = self._managers, {}
        if self._pid == os.getpid():
            for manager in managers.values():
                manager.clear()

    def after_fork(self) -> None:
        """In a forked child: leave the parent's connections alone."""
        self._lock = threading.Lock()
        self._managers = {}
        self._pid = os.getpid()

    def _drop_idle(self) -> None:
        """Middle boxes forget idle connections without a word, and what is sent over them then is never
        answered. The wall clock also goes on while the process is frozen."""
        if self._managers and not 0 <= time.time() - self._used_at < _IDLE_SECONDS:
            self.close()

    def _manager(self, url: str) -> PoolManager:
        parts = urllib.parse.urlsplit(url)
        proxy = _proxy(f"{parts.scheme}://{parts.netloc}/", tuple(map(os.environ.get, _PROXY_VARIABLES)))
        with self._lock:
            manager = self._managers.get(proxy)
            if manager is None:
                # Four at a time to a host is the most that the courier has in flight.
                if proxy:
                    # Made by requests, which knows about credentials in the proxy's URL, and SOCKS.
                    adapter = HTTPAdapter(pool_connections=_POOL, pool_maxsize=_POOL)
                    proxy_url = prepend_scheme_if_needed(proxy, "http")  # type: ignore[no-untyped-call]
                    manager = adapter.proxy_manager_for(proxy_url, **_certificates())
                else:
                    manager = PoolManager(num_pools=_POOL, maxsize=_POOL, **_certificates())
                self._managers[proxy] = manager
            return manager


@functools.lru_cache(maxsize=128)  # it goes through the whole environment several times over
def _proxy(root: str, environment: tuple[str | None, ...]) -> str:
    """The proxy to a server as the environment has it, empty for none."""
    return select_proxy(root, get_environ_proxies(root)) or ""


def _retry_after(policy: Retry, response: BaseHTTPResponse) -> float | None:
    """The seconds that the server asks to be left alone for; None if it doesn't say, or not in a known form."""
    try:
        return policy.get_retry_after(response)
    except InvalidHeader:
        return None


def _is_stale(error: BaseException) -> bool:
    return isinstance(getattr(error, "reason", None) or error, ProtocolError)


def _was_sent(error: BaseException) -> bool:
    """True if the other side may have had the request: it broke the connection off, or did not answer."""
    return isinstance(getattr(error, "reason", None) or error, (ProtocolError, ReadTimeoutError))


def _plain(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    return f"{type(reason).__name__}: {reason}"


def _host(url: str) -> str:
    return urllib.parse.urlsplit(url).netloc


def _certificates() -> dict[str, Any]:
    for variable in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        path = os.environ.get(variable)
        if path and os.path.isdir(path):
            return {"cert_reqs": "CERT_REQUIRED", "ca_cert_dir": path}
        if path and os.path.isfile(path):
            return {"cert_reqs": "CERT_REQUIRED", "ca_certs": path}
    return {"cert_reqs": "CERT_REQUIRED", "ca_certs": DEFAULT_CA_BUNDLE_PATH}
