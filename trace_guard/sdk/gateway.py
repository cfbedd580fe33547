"""Stands between the Braintrust SDK and the network: rows go to the journal, and nobody waits for a look-up.

It is an adapter of ``requests``, put in with the SDK's public ``set_http_adapter``. What it does with a
request is a table. Rows, of which the SDK need not make a request, are done with as soon as the journal has them;
logins and projects are answered from what is configured or cached; attachments go to files beside the journal.
All else goes to the network with a timeout, which the SDK leaves out once an adapter is set. It touches nothing of
the SDK: that is :mod:`trace_guard.sdk.sdk`.
"""

from __future__ import annotations

import functools
import http
import io
import json
import re
import urllib.parse
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import requests
from requests.adapters import HTTPAdapter

from ..backends.project_ids import (
    ORG_NAME_PLACEHOLDER,
    ORG_PLACEHOLDER,
    Organisation,
    is_placeholder,
    placeholder,
    project_name,
)
from ..contain import contain, report
from ..deadline import Deadline
from ..rows import Row, split_rows
from ..settings import Settings

__all__ = ["Gateway", "GatewayHost"]

# (connect, read) seconds for what passes through: prompts, datasets, functions, attachments of old.
PASS_THROUGH_TIMEOUT = (5.0, 30.0)
LOCAL_KEY = "trace-guard-local"
# Marks the upload URLs that the SDK was given for attachments, and the rows that refer to them.
_ATTACHMENTS = "/trace-guard/attachments/"
# The last part of the paths under which the SDK reads rows: queries, and summaries of old and new.
_READS = re.compile(r"/(?:btql|fetch|summarize|experiment-comparison2?|dataset-summary)$")
_REFERENCE = b"braintrust_attachment"
# Placeholders, see trace_guard.backends.project_ids, as a JSON string and as a part of a URL.
_ORGANISATION = (ORG_PLACEHOLDER, ORG_NAME_PLACEHOLDER)


@functools.cache  # for what passes through, which many a process has nothing of
def _in_json() -> re.Pattern[bytes]:
    return re.compile(rf'"(?:{placeholder("")}(?:[^"\\]|\\.)*|{"|".join(_ORGANISATION)})"'.encode())


@functools.cache
def _in_url() -> re.Pattern[str]:
    return re.compile("|".join([
        urllib.parse.quote(placeholder(""), safe="") + "[^&#/?]*",
        *(urllib.parse.quote(one, safe="") + r"(?![\w-])" for one in _ORGANISATION),
    ]))


class Attachments(Protocol):
    """What the gateway needs to keep attachments; see :mod:`trace_guard.runtime.attachments`."""

    def refer(self, rows: Iterable[Row]) -> None: ...

    def begin(self, told: Any) -> Any: ...

    def put(self, path: str, content: Any) -> bool: ...

    def conclude(self, told: Any) -> bool: ...

    def find(self, key: str) -> Any: ...

    def get(self, path: str) -> bytes | None: ...


class GatewayHost(Protocol):
    """What the gateway needs of the guard.

    Attributes:
        exit_by: up to when the exit may wait; None until the process exits.
    """

    exit_by: Deadline | None

    def ingest(self, rows: list[tuple[dict[str, Any], bytes]]) -> None:
        """Put rows in the journal."""

    def settings(self) -> Settings | None:
        """The settings that look-ups are for; None without a guard."""

    def key_given(self, api_key: str, app_url: str, org_name: str | None) -> None:
        """The SDK logs in with this key."""

    def organisation_given(self, organisation: Organisation) -> None:
        """The SDK has logged in by itself, and to this organisation."""

    def flushed(self) -> None:
        """The user has called the SDK's ``flush()``, and the rows are in the journal."""

    def reads(self) -> None:
        """The SDK is about to read rows back."""

    def organisation(self) -> Organisation | None:
        """The organisation, if it is known."""

    def project_id(self, name: str) -> str | None:
        """The id of a project, if it is known."""

    def project_name(self, project_id: str) -> str | None:
        """The name of a project, if it is known."""

    def span_started(self, span: Any) -> None:
        """The SDK has opened a span; its rows may be on their way."""

    def find_out(self, name: str | None) -> None:
        """Look up the organisation, and the project of that name; waits for the network."""

    def api_url(self) -> str:
        """Where the SDK is to send what passes through."""

    def passes_through(self) -> bool:
        """False where there is no server to pass anything to."""

    @property
    def attachments(self) -> Attachments:
        """Where the SDK's attachments go; made with the first one."""


class Gateway(HTTPAdapter):
    """Answers what it can and passes on the rest.

    Args:
        host: where rows go and answers come from.
        inner: the adapter that a user had set, for what passes through.

    Attributes:
        wanted_organisation: the one that the login under way asks for, which its request does not say.
    """

    def __init__(self, host: GatewayHost, inner: HTTPAdapter | None = None) -> None:
        super().__init__()
        self.host = host
        self.inner = inner
        self.wanted_organisation: str | None = None

    def send(  # type: ignore[override]
        self, request: requests.PreparedRequest, stream: bool = False, timeout: Any = None, **options: Any
    ) -> requests.Response:
        url = urllib.parse.urlsplit(request.url or "")
        for method, matches, answer in self._routes:
            if request.method == method and matches(url.path):
                try:
                    reply = answer(self, request, url)
                except Exception as fault:  # noqa: BLE001 - the SDK must get an answer, or it sleeps and retries
                    report(f"answer the SDK's {method} {url.path}", fault)
                    # Better past the journal than not at all, if there is a server.
                    reply = None if self.host.passes_through() else {}
                if isinstance(reply, requests.Response):
                    return reply
                if reply is not None:
                    return _response(request, json.dumps(reply).encode())
        return self._pass_on(request, stream, timeout, options)

    def after_fork(self) -> None:
        """In a forked child: make connections of its own."""
        super().__init__()

    def close(self) -> None:
        if self.inner is not None:
            self.inner.close()
        super().close()

    # Answers; None passes the request on

    def _rows(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        body = request.body or b""
        self.take_rows(body.encode() if isinstance(body, str) else bytes(body))
        return {}

    def take_rows(self, body: bytes) -> None:
        """Put the rows of a request's body in the journal."""
        rows = list(split_rows(body))
        self.host.ingest(rows)
        if _REFERENCE in body:
            self.host.attachments.refer(row for row, _ in rows)

    def _login(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        # With a user in its URL the request has other credentials than the key.
        scheme, _, key = str(request.headers.get("Authorization", "")).partition(" ")
        key = key.strip() if scheme == "Bearer" else ""
        if key and key != LOCAL_KEY:
            app_url = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path.removesuffix('/api/apikey/login')}"
            self.host.key_given(key, app_url, self.wanted_organisation)
        wanted = self.wanted_organisation
        found = self.host.organisation()
        if found is None or wanted not in (None, found.name):
            found = Organisation(ORG_PLACEHOLDER, wanted or ORG_NAME_PLACEHOLDER)
        api_url = self.host.api_url()
        return {"org_info": [{
            "id": found.id, "name": found.name, "api_url": api_url, "proxy_url": api_url, "git_metadata": None,
        }]}

    def _project(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        name = str(json.loads(request.body or b"{}").get("name") or "Global")
        return {"id": self.id_of(name), "name": name, "org_id": self._organisation_id()}

    def _old_project(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        wanted = json.loads(request.body or b"{}")
        name = str(wanted.get("project_name") or "Global")
        return {"project": {"id": str(wanted.get("project_id") or self.id_of(name)), "name": name}}

    def _project_by_id(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        return self._named(urllib.parse.unquote(url.path.rsplit("/", 1)[1]))

    def _old_project_by_id(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        wanted = urllib.parse.parse_qs(url.query).get("id")
        return self._named(wanted[0]) if wanted else None

    def _named(self, project_id: str) -> dict[str, str]:
        name = project_name(project_id) if is_placeholder(project_id) else self.host.project_name(project_id)
        return {"id": project_id, "name": name or project_id, "org_id": self._organisation_id()}

    def _version(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        # Never a payload limit: above it the SDK would leave rows in an object store and log only their key.
        return {}

    def _attachment(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
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
        """That there is no such thing, where there is no server to ask; else None."""
        return None if self.host.passes_through() else _response(request, b'{"error":"not found"}', 404)

    def _ping(self, request: requests.PreparedRequest, url: urllib.parse.SplitResult) -> Any:
        return None if self.host.passes_through() else {}

    _routes: tuple[tuple[str, Callable[[str], bool], Callable[..., Any]], ...] = (
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
        """What the SDK is to memorise: a name that is its own id, as without a server, is none after a login."""
        known = self.host.project_id(name)
        return placeholder(name) if known in (None, name) else str(known)

    def _resolve(self, request: requests.PreparedRequest) -> None:
        """Put the real ids for placeholders, which were given out before the ids were known, and memorised by the
        SDK. They are looked up if need be: the request waits for the network anyway."""
        request.url = _in_url().sub(
            lambda found: urllib.parse.quote(self._real(urllib.parse.unquote(found[0])), safe=""), request.url or ""
        )
        if isinstance(request.body, (bytes, str)):
            body = request.body.encode() if isinstance(request.body, str) else request.body
            resolved = _in_json().sub(lambda found: json.dumps(self._real(json.loads(found[0]))).encode(), body)
            if resolved != body:
                request.body = resolved
                request.headers["Content-Length"] = str(len(resolved))

    def _real(self, text: str) -> str:
        """What a placeholder stands for; the placeholder itself if that can't be found out."""
        if is_placeholder(text):
            name = project_name(text)
            if self.host.project_id(name) is None:
                self.host.find_out(name)
            return self.host.project_id(name) or text
        if self.host.organisation() is None:
            self.host.find_out(None)
        found = self.host.organisation()
        if found is None:
            return text
        return found.name if text == ORG_NAME_PLACEHOLDER else found.id

    def _organisation_id(self) -> str:
        found = self.host.organisation()
        return found.id if found else ORG_PLACEHOLDER

    def _pass_on(
        self, request: requests.PreparedRequest, stream: bool, timeout: Any, options: dict[str, Any]
    ) -> requests.Response:
        self._resolve(request)
        if _READS.search(request.path_url.partition("?")[0]):
            with contain("deliver before a read"):
                self.host.reads()
        timeout = timeout if timeout is not None else PASS_THROUGH_TIMEOUT
        if self.inner is not None:
            return self.inner.send(request, stream=stream, timeout=timeout, **options)
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
