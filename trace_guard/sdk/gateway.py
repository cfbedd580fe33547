"""Stands between the Braintrust SDK and the network: rows go to the journal, and nobody waits for a look-up.

It is an adapter of ``requests``, put in with the SDK's public ``set_http_adapter``. A table says what it does with a
request: rows go to the journal, logins and projects are answered from what is configured or cached, attachments go to
files beside the journal. Everything else goes to the network, with the SDK's own retries and timeouts: see
:mod:`trace_guard.sdk.retries`.
"""

from __future__ import annotations

import contextlib
import http
import io
import json
import re
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any, NamedTuple

import requests
import urllib3
from requests.adapters import HTTPAdapter

from ..backends.project_ids import (
    ORG_NAME_PLACEHOLDER,
    ORG_PLACEHOLDER,
    Organisation,
    is_placeholder,
    placeholder,
    project_name,
)
from ..contain import contain, contained, report
from ..errors import BackendError, BackendUnavailable
from ..journal.row_facts import NewRow
from ..rows import Row, split_rows
from ..settings import DEFAULT_API_URL
from .host import GatewayHost, Owner, ProjectLookup
from .making_rows import is_making_rows
from .placeholders import resolve
from .retries import default_timeout, retrying_adapter

__all__ = ["Gateway"]

LOCAL_KEY = "trace-guard-local"
# None outside of a login of the global state.
_LOGIN_UNDER_WAY: ContextVar[_OwnLogin | None] = ContextVar("trace_guard_login", default=None)
_OBJECTS = ("dataset_id", "experiment_id", "project_id")
# Marks the upload URLs that the SDK was given for attachments, and the rows that refer to them.
_ATTACHMENTS = "/trace-guard/attachments/"
# The last part of the paths under which the SDK reads rows: queries, and summaries of old and new.
_READS = re.compile(r"/(?:btql|fetch|summarize|experiment-comparison2?|dataset-summary)$")
_REFERENCE = b"braintrust_attachment"
_OVERFLOW = re.compile(rb'\s*\{\s*"rows"\s*:\s*\{')
# Seconds; a timeout of 0 is an error.
_SHORTEST_TIMEOUT = 0.001


class _OwnLogin(NamedTuple):
    """The login of the global state that is under way."""

    org_name: str | None
    verify: bool


class Gateway(HTTPAdapter):
    """Answers the requests that it can and passes on the rest.

    Requests with other credentials than the login's are another state's, or a call's of its own. They pass on, as
    without the guard; only their rows go to a journal, that of their own destination.

    Args:
        host: where rows go and answers come from.
        inner: the user's adapter, for requests that pass through.
    """

    def __init__(self, host: GatewayHost, inner: HTTPAdapter | None = None) -> None:
        super().__init__()
        self._network = retrying_adapter()
        self.host = host
        self.inner = inner
        self._login_token: str | None = None
        # By the id of an object that has credentials of its own.
        self._objects: dict[str, Owner] = {}

    def note_login(self, key: str | None) -> None:
        """The global state is logged in with this key."""
        self._login_token = key

    @staticmethod
    @contextlib.contextmanager
    def logging_in(org_name: str | None, *, verify: bool = False) -> Iterator[None]:
        """Within this block a login request is the global state's own, and asks for this organisation, which the
        request does not say. The SDK may make it on another thread, with a copy of the context.

        Args:
            verify: ask the server, whose refusal is the answer.
        """
        token = _LOGIN_UNDER_WAY.set(_OwnLogin(org_name, verify))
        try:
            yield
        finally:
            _LOGIN_UNDER_WAY.reset(token)

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None, **options: Any
    ) -> requests.Response:
        url = urllib.parse.urlsplit(request.url or "")
        for method, matches, answer in self.routes:
            if request.method == method and matches(url.path):
                try:
                    reply = answer(self, request, url)
                except requests.RequestException:
                    raise  # the server can't be asked, as the SDK alone would find
                except Exception as fault:  # noqa: BLE001 - the SDK must get an answer, or it sleeps and retries
                    report(f"answer the SDK's {method} {url.path}", fault)
                    # Without the journal is better than not at all, if there is a server.
                    reply = None if contained("look for a server", self.host.passes_through, False) else {}
                if isinstance(reply, requests.Response):
                    return reply
                if reply is not None:
                    return _response(request, json.dumps(reply).encode())
        return self._pass_on(request, stream, timeout, options)

    def after_fork(self) -> None:
        """In a forked child: make connections of its own."""
        super().__init__()
        self._network = retrying_adapter()

    def close(self) -> None:
        if self.inner is not None:
            self.inner.close()
        self._network.close()
        super().close()

    # Answers; None passes the request on

    def _rows(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        body = request.body or b""
        encoded = body.encode() if isinstance(body, str) else bytes(body)
        key = _key_of(request)
        if key is None or _is_overflow(encoded):
            return None
        if self._is_own(key):
            self.take_rows(encoded)
        else:
            owner = Owner(key, _base(url, "/logs3"))
            self.host.ingest_of(owner, _new_rows(encoded), has_references=_REFERENCE in encoded)
        return {}

    def take_rows(self, body: bytes) -> None:
        """Put rows of the global state, in the form of a request's body, in the journal."""
        self.take(_new_rows(body), has_references=_REFERENCE in body)

    def take_row(self, row: Row, encoded: bytes) -> None:
        """Put a row of the global state in the journal."""
        self.take([NewRow(row, encoded)], has_references=_REFERENCE in encoded)

    def take(self, rows: list[NewRow], *, has_references: bool) -> None:
        """Put rows of the global state in the journal.

        Args:
            has_references: some of them refer to attachments.
        """
        if self._objects:
            rows = self._without_objects(rows, has_references=has_references)
        self.host.ingest(rows, has_references=has_references)

    def note_object(self, object_id: str, owner: Owner) -> None:
        """The rows and attachments of this dataset, experiment or project belong to this owner."""
        self._objects[object_id] = owner

    def _without_objects(self, rows: list[NewRow], *, has_references: bool) -> list[NewRow]:
        """Put the rows of objects with credentials of their own in their journals. Returns the others."""
        shares: dict[Owner | None, list[NewRow]] = {}
        for new in rows:
            ids = (str(new.row.get(key)) for key in _OBJECTS)
            owner = next((self._objects[one] for one in ids if one in self._objects), None)
            shares.setdefault(owner, []).append(new)
        for owner, share in shares.items():
            if owner is not None:
                self.host.ingest_of(owner, share, has_references=has_references, waits=False)
        return shares.get(None, [])

    def _login(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        key, under_way = _key_of(request), _LOGIN_UNDER_WAY.get()
        if under_way is None:
            if key != LOCAL_KEY:
                return None  # a call of its own, which changes nothing for others
            under_way = _OwnLogin(None, False)
        wanted = under_way.org_name
        answer = self._verified(request) if under_way.verify else None
        if answer is not None and not answer.ok:
            return answer
        if key and key != LOCAL_KEY:
            self.host.logged_in(key, _base(url, "/api/apikey/login"), wanted)
        if answer is not None:
            return answer
        lookup = self.host.lookup
        found = lookup.organisation if lookup is not None else None
        if found is None or wanted not in (None, found.name):
            found = Organisation(ORG_PLACEHOLDER, wanted or ORG_NAME_PLACEHOLDER)
        api_url = lookup.api_url if lookup is not None else DEFAULT_API_URL
        return {"org_info": [{
            "id": found.id, "name": found.name, "api_url": api_url, "proxy_url": api_url, "git_metadata": None,
        }]}

    def _is_own(self, key: str | None) -> bool:
        """True for a request with the credentials of the login in force."""
        return key is not None and key in (LOCAL_KEY, self._login_token)

    def _is_for_own_organisation(self, request: requests.PreparedRequest, wanted: Mapping[str, Any]) -> bool:
        """False if the request has other credentials, or is for another organisation of the same key."""
        organisation = self._organisation
        names = (None, ORG_NAME_PLACEHOLDER, organisation.name if organisation else None)
        return self._is_own(_key_of(request)) and wanted.get("org_name") in names

    def _project(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        wanted = json.loads(request.body or b"{}")
        if not self._is_for_own_organisation(request, wanted):
            return None
        name = str(wanted.get("name") or "Global")
        project_id = self._ask_for_project(name)
        return project_id and {"id": project_id, "name": name, "org_id": self._organisation_id()}

    def _old_project(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        wanted = json.loads(request.body or b"{}")
        if not self._is_for_own_organisation(request, {}):
            return None
        name = str(wanted.get("project_name") or "Global")
        project_id = wanted.get("project_id") or self._ask_for_project(name)
        return project_id and {"project": {"id": str(project_id), "name": name}}

    def _project_by_id(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        return self._named(request, urllib.parse.unquote(url.path.rsplit("/", 1)[1]))

    def _old_project_by_id(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        wanted = urllib.parse.parse_qs(url.query).get("id")
        return self._named(request, wanted[0]) if wanted else None

    def _named(self, request: requests.PreparedRequest, project_id: str) -> dict[str, str] | None:
        if not self._is_own(_key_of(request)):
            return None
        lookup = self.host.lookup
        if is_placeholder(project_id):
            name: str | None = project_name(project_id)
        else:
            name = lookup.project_name(project_id) if lookup is not None else None
        if name is None and self.host.passes_through():
            return None
        return {"id": project_id, "name": name or project_id, "org_id": self._organisation_id()}

    def _version(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        # Never a payload limit for rows: above it the SDK would leave them in an object store and log only their key.
        return {} if is_making_rows() or not self.host.passes_through() else None

    def _attachment(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        if not self._is_own(_key_of(request)):
            return None
        return self.host.attachments.begin(json.loads(request.body or b"{}"))

    def _attachment_content(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        return {} if self.host.attachments.put(url.path, request.body) else _response(request, b"", 404)

    def _attachment_status(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        told = json.loads(request.body or b"{}")
        return {} if self.host.attachments.conclude(told) else self._unless_passed(request)

    def _find_attachment(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        key = urllib.parse.parse_qs(url.query).get("key")
        return (self.host.attachments.find(key[0]) if key else None) or self._unless_passed(request)

    def _get_attachment(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        content = self.host.attachments.get(url.path)
        return _response(request, b"", 404) if content is None else _response(request, content)

    def _unless_passed(self, request: requests.PreparedRequest) -> requests.Response | None:
        """A 404 where there is no server to ask, else None."""
        if self.host.passes_through() or not self._is_own(_key_of(request)):
            return None
        return _response(request, b'{"error":"not found"}', 404)

    def _ping(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        return None if self.host.passes_through() or not self._is_own(_key_of(request)) else {}

    routes: tuple[tuple[str, Callable[[str], bool], Callable[..., Any]], ...] = (
        ("POST", lambda path: path.endswith("/logs3"), _rows),
        ("POST", lambda path: path.endswith("/api/apikey/login"), _login),
        ("POST", lambda path: path.endswith("/v1/project"), _project),
        ("POST", lambda path: path.endswith("/api/project/register"), _old_project),
        ("GET", lambda path: path.rsplit("/", 1)[0].endswith("/v1/project"), _project_by_id),
        ("GET", lambda path: path.endswith("/api/project"), _old_project_by_id),
        ("GET", lambda path: path.endswith("/version"), _version),
        ("GET", lambda path: path.endswith("/ping"), _ping),
        ("POST", lambda path: path.endswith("/attachment"), _attachment),
        ("PUT", lambda path: path.startswith(_ATTACHMENTS), _attachment_content),
        ("POST", lambda path: path.endswith("/attachment/status"), _attachment_status),
        ("GET", lambda path: path.endswith("/attachment"), _find_attachment),
        ("GET", lambda path: path.startswith(_ATTACHMENTS), _get_attachment),
    )

    def id_of(self, name: str) -> str:
        """The project id that the SDK is to cache: a name that is its own id, as without a server, is none after a
        login."""
        known = self._project_id(name)
        return placeholder(name) if known in (None, name) else str(known)

    def _project_id(self, name: str) -> str | None:
        lookup = self.host.lookup
        return lookup.project_id(name) if lookup is not None else None

    def _ask_for_project(self, name: str) -> str | None:
        """The real id of a project, from what is known or from the server. None if the server does not give it: the
        SDK's own request gets the same answer."""
        lookup, known = self.host.lookup, self._project_id(name)
        return known if known is not None or lookup is None else self._asked(lookup, name)

    def ask_for_organisation(self) -> Organisation | None:
        """The organisation of the login, from what is known or from the server; None without a server.

        Raises:
            requests.ConnectionError: the server could not be asked in time.
        """
        lookup = self.host.lookup
        if lookup is not None and lookup.organisation is None:
            self._asked(lookup, None)
        return self._organisation

    def _asked(self, lookup: ProjectLookup, name: str | None) -> str | None:
        try:
            return lookup.ask(name, self.host.patience())
        except BackendUnavailable as error:
            raise requests.ConnectionError(str(error)) from error
        except BackendError:
            return None

    def _verified(self, request: requests.PreparedRequest) -> requests.Response | None:
        """What the server says to a login; None if it can't be asked in time."""
        seconds = min(default_timeout(), self.host.patience().remaining)
        send = self.inner.send if self.inner is not None else super().send
        try:
            answer = send(request, timeout=max(seconds, _SHORTEST_TIMEOUT))
        except (requests.RequestException, urllib3.exceptions.HTTPError, UnicodeError):
            return None  # also a key that no header can carry, which the first delivery names
        return None if answer.status_code == 429 or answer.status_code >= 500 else answer

    @property
    def _organisation(self) -> Organisation | None:
        lookup = self.host.lookup
        return lookup.organisation if lookup is not None else None

    def _organisation_id(self) -> str:
        found = self._organisation
        return found.id if found else ORG_PLACEHOLDER

    def _pass_on(
        self, request: requests.PreparedRequest, stream: bool, timeout: Any, options: dict[str, Any]
    ) -> requests.Response:
        if self._is_own(_key_of(request)):
            resolve(request, self.host.lookup)
        if _READS.search(request.path_url.partition("?")[0]):
            with contain("deliver before a read"):
                self.host.reads()
        sets_no_timeout, timeout = timeout is None, default_timeout() if timeout is None else timeout
        if self.inner is not None:
            return self.inner.send(request, stream=stream, timeout=timeout, **options)
        if sets_no_timeout and self.host.passes_through():
            return self._network.send(request, stream=stream, timeout=timeout, **options)
        # The SDK's newer client sets a timeout, and repeats requests itself.
        return super().send(request, stream=stream, timeout=timeout, **options)


def _response(request: requests.PreparedRequest, body: bytes, status: int = 200) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response.reason = http.HTTPStatus(status).phrase
    response.url = request.url or ""
    response.request = request
    response.headers["Content-Type"] = "application/json"
    response.encoding = "utf-8"
    response.raw = io.BytesIO(body)
    return response


def _new_rows(body: bytes) -> list[NewRow]:
    return [NewRow(row, encoded) for row, encoded in split_rows(body)]


def _key_of(request: requests.PreparedRequest) -> str | None:
    """The key that a request is made with. With a user in its URL it has other credentials than a key."""
    scheme, _, key = str(request.headers.get("Authorization", "")).partition(" ")
    return key.strip() or None if scheme == "Bearer" else None


def _is_overflow(body: bytes) -> bool:
    """True if the rows are in an object store, and the request has only their key."""
    return _OVERFLOW.match(body) is not None


def _base(url: urllib.parse.SplitResult, path: str) -> str:
    """The URL of a server, without the path of a request to it and without credentials."""
    return f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path.removesuffix(path)}"
