"""HTTP requests with a deadline, which bounds attempts, pauses between them, and answers."""

from __future__ import annotations

import contextlib
import email.utils
import math
import os
import random
import re
import threading
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from typing import NamedTuple

# Imported at start, see trace_guard.backends.connections.
from urllib3 import PoolManager, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError, ProtocolError, ReadTimeoutError
from urllib3.util.retry import Retry

from ..contain import is_shortage
from ..deadline import Deadline
from ..errors import BackendUnavailable
from ..redaction.outside_text import printable
from ..redaction.urls import strip_userinfo
from ..system.interruption import pass_interruption
from .bounded_answer import MOST_BYTES, AnswerTooLong, Bound, inflated
from .connections import CONNECT_SECONDS, bounded_by, pools_for, proxy_for
from .urls import is_web_url, keeps_encryption

__all__ = ["Answer", "Transport", "retry_after_of"]

ATTEMPTS = 3
_BACKOFF = 0.1
_IDLE_SECONDS = 60.0
_READ_BYTES = 64 * 1024
# The module's own functions have a state that user code may have seeded.
_RANDOM = random.SystemRandom()
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_REDIRECTS = frozenset({301, 302, 307, 308})
_MOST_REDIRECTS = 3
_FOR_ONE_HOST = frozenset({"authorization", "cookie", "proxy-authorization"})
# Fifteen digits of seconds are thirty million years.
_MOST_DIGITS = 15


class Answer(NamedTuple):
    """The status and the body that a server answered, where a 303 leads, and the server's ``Date``."""

    status: int
    body: bytes
    location: str | None = None
    date: str | None = None

    @property
    def text(self) -> str:
        """The beginning of the body, for an error message."""
        return printable(self.body.decode("utf-8", "replace").strip(), 300)


class Transport:
    """Sends requests over kept-alive connections. Thread-safe; a forked child opens its own connections.

    Proxies and certificates come from the environment, as in ``requests``: ``HTTPS_PROXY``, ``HTTP_PROXY``,
    ``NO_PROXY``, ``REQUESTS_CA_BUNDLE``, ``CURL_CA_BUNDLE``, and ``SSL_CERT_FILE``.
    """

    def __init__(self) -> None:
        self._managers: dict[str, PoolManager] = {}
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._used_at = 0.0

    def request(
        self, method: str, url: str, body: bytes | Iterable[bytes], headers: Mapping[str, str], deadline: Deadline,
        *, follow: bool = False, attempts: int = ATTEMPTS, most_bytes: int = MOST_BYTES,
    ) -> Answer:
        """Send an idempotent request, and repeat it if necessary.

        Args:
            body: pieces are iterated over for each attempt; then the headers must have the length.
            follow: follow redirects; not for requests that carry a key.
            attempts: the most times that the request is sent.
            most_bytes: the most bytes of an answer, including its headers.

        Raises:
            BackendUnavailable: no complete answer within the deadline and ``most_bytes``, or only answers that mean
                "later"
                (408, 425, 429, 5xx). ``retry_after`` has the seconds that the server asked to wait.
        """
        self._drop_idle()
        policy = Retry(total=attempts - 1, backoff_factor=_BACKOFF, allowed_methods=None)
        reconnects, redirects, suspect = 1, _MOST_REDIRECTS, False
        status: int | None = None
        while True:
            if not is_web_url(url):
                raise BackendUnavailable("a request can't be sent: its URL is not one of http or https")
            if deadline.expired:
                raise BackendUnavailable(f"no answer from {_host(url)} in time", suspect_rows=suspect)
            retry_after: float | None = None
            try:
                reply = self._exchange(method, url, body, headers, Bound(deadline, most_bytes))
            except HTTPError as error:
                trouble, suspect = f"{_host(url)} did not answer: {_plain(error)}", _was_sent(error)
                status = None
                if reconnects and _is_stale(error):
                    # The server closed the connection while the process was frozen, which is a fault of
                    # neither: connect anew, at once. Once only, as a server may also drop every request.
                    reconnects -= 1
                    continue
            except AnswerTooLong as error:
                trouble, suspect = f"{_host(url)} did not answer: {error}", True
            except ValueError as error:
                # The message may contain a header with the key.
                raise BackendUnavailable(f"a request can't be sent: {type(error).__name__}") from None
            except (OSError, RuntimeError, Warning) as error:
                pass_interruption(error)
                if is_shortage(error) or type(error) is RuntimeError:
                    raise
                # A test forbids sockets or hides files, as pytest-socket and pyfakefs do.
                raise BackendUnavailable(f"a request can't be sent: {type(error).__name__}: {error}") from None
            else:
                target = _join(url, reply.headers.get("location", ""))
                if (
                    follow and redirects and reply.status in _REDIRECTS
                    and is_web_url(target) and keeps_encryption(url, target)
                ):
                    redirects -= 1
                    if _host(target) != _host(url):
                        headers = {name: headers[name] for name in headers if name.lower() not in _FOR_ONE_HOST}
                    url = target
                    continue
                if reply.is_final:
                    elsewhere = reply.status == 303 and is_web_url(target) and keeps_encryption(url, target)
                    return Answer(reply.status, reply.body, target if elsewhere else None, reply.headers.get("date"))
                retry_after, status = retry_after_of(reply.headers.get("retry-after")), reply.status
                suspect = reply.trouble is not None or reply.status >= 500
                trouble = f"{_host(url)} answered {reply.status}: {reply.trouble or Answer(0, reply.body).text}"
            try:
                policy = policy.increment(method, url)
            except MaxRetryError:
                raise BackendUnavailable(
                    trouble, retry_after=retry_after, status=status, suspect_rows=suspect
                ) from None
            pause = policy.get_backoff_time() + _RANDOM.uniform(0, _BACKOFF)
            pause = pause if retry_after is None else max(pause, retry_after)
            if pause >= deadline.remaining:
                raise BackendUnavailable(trouble, retry_after=retry_after, status=status, suspect_rows=suspect)
            time.sleep(pause)

    def _exchange(
        self, method: str, url: str, body: bytes | Iterable[bytes], headers: Mapping[str, str], bound: Bound
    ) -> _Reply:
        """Send a request once, and read the answer within the bound."""
        with bounded_by(bound):
            response = self._manager(url).urlopen(
                method, url, body=body, headers={"Accept-Encoding": "identity", **headers}, redirect=False,
                retries=False, preload_content=False, decode_content=False, enforce_content_length=True,
                timeout=Timeout(connect=CONNECT_SECONDS, read=CONNECT_SECONDS),  # each operation sets what is left
            )
            self._used_at = time.time()
            content, trouble = b"", None
            try:
                if response.status < 200:
                    # The final answer is still to come and would be read as the answer to the next request.
                    response.close()
                else:
                    content = b"".join(iter(lambda: response.read(_READ_BYTES), b""))
                    content = inflated(content, response.headers.get("content-encoding", ""))
            except (HTTPError, AnswerTooLong, ValueError) as error:
                response.close()
                trouble = _plain(error)
            except BaseException:
                response.close()  # the rest of the answer would be read as the answer to the next request
                raise
            response.release_conn()
            return _Reply(response.status, response.headers, content, trouble)

    def close(self) -> None:
        """Close idle connections. New ones are made when they are needed."""
        with self._lock:
            managers, self._managers = self._managers, {}
        if self._pid == os.getpid():
            for manager in managers.values():
                manager.clear()

    def after_fork(self) -> None:
        """Abandon the parent's connections. Called in a forked child."""
        self._lock = threading.Lock()
        self._managers = {}
        self._pid = os.getpid()

    def _drop_idle(self) -> None:
        """Close connections that were idle for long. Middleboxes drop them silently, and requests over them are
        never answered. The wall clock also runs while the process is frozen."""
        if self._managers and not 0 <= time.time() - self._used_at < _IDLE_SECONDS:
            self.close()

    def _manager(self, url: str) -> PoolManager:
        parts = urllib.parse.urlsplit(url)
        proxy = proxy_for(f"{parts.scheme}://{parts.netloc}/")
        with self._lock:
            manager = self._managers.get(proxy)
            if manager is None:
                manager = self._managers[proxy] = pools_for(proxy)
            return manager


class _Reply(NamedTuple):
    """One answer. ``trouble`` is why its body could not be read to the end."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    trouble: str | None

    @property
    def is_final(self) -> bool:
        return self.trouble is None and self.status >= 200 and self.status not in _RETRIED


def retry_after_of(value: str | None) -> float | None:
    """The seconds that a ``Retry-After`` header asks for, never negative; None if the header is missing or
    malformed."""
    value = (value or "").strip()
    if value.isascii() and value.isdigit():
        return float(value) if len(value) <= _MOST_DIGITS else math.inf
    with contextlib.suppress(ValueError, TypeError, OverflowError, IndexError):
        date = email.utils.parsedate_tz(value)
        if date is not None:
            return max(0.0, email.utils.mktime_tz(date) - time.time())
    return None


def _join(url: str, location: str) -> str:
    """The target of a redirect; empty if it is not a URL."""
    try:
        return urllib.parse.urljoin(url, location)
    except ValueError:
        return ""


def _is_stale(error: BaseException) -> bool:
    return isinstance(getattr(error, "reason", None) or error, ProtocolError)


def _was_sent(error: BaseException) -> bool:
    """True if the server may have received the request: it closed the connection or did not answer."""
    return isinstance(getattr(error, "reason", None) or error, (ProtocolError, ReadTimeoutError))


def _plain(error: BaseException) -> str:
    reason = getattr(error, "reason", None) or error
    # urllib3 puts the connection's repr first, which repeats the host.
    text = re.sub(r"^<?\w+\(host=[^)]*\)[^:]*: ", "", str(reason))
    return f"{type(reason).__name__}: {text}"


def _host(url: str) -> str:
    return urllib.parse.urlsplit(strip_userinfo(url)).netloc
