"""Sends rows to Braintrust over HTTP (``POST /logs3``), and looks up organisations and projects."""

from __future__ import annotations

import contextlib
import json
import threading
import urllib.parse
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ..deadline import Deadline
from ..errors import BackendRefused, BackendUnauthorized, BackendUnavailable
from ..redaction.outside_text import printable
from ..redaction.urls import strip_userinfo
from ..settings import ACCEPTED_KEY, DEFAULT_API_URL, Settings, fits_header
from .bounded_answer import MOST_BYTES
from .overflow import DEFAULT_LIMIT, Overflow, upload_headers
from .project_ids import ORG_PLACEHOLDER, Organisation, ProjectIds
from .transport import ATTEMPTS, Answer, Transport
from .urls import is_web_url, keeps_encryption

if TYPE_CHECKING:
    from ..journal.spooled import Content, SpooledAttachment

__all__ = ["BraintrustBackend"]

_API_VERSION = 2
# The server takes 6 MiB by default (the SDK's DEFAULT_MAX_REQUEST_SIZE); half of it leaves room for slow links.
_MAX_BYTES = 3 * 1024 * 1024
_REFUSED = frozenset({400, 413, 422})
_PAGE_ROWS = 1000
# The most bytes of a page of query results. Pages are not read in the courier's thread.
_PAGE_BYTES = 64 * 1024 * 1024
_PAGE_PROJECTS = 100
_LONGEST_ID = 1024
_MOST_NAMES = 20


class BraintrustBackend:
    """Sends rows to Braintrust with the URLs and the key of the settings.

    Thread-safe, and safe to use after ``fork``.
    """

    name = "braintrust"

    def __init__(self, settings: Settings, ids: ProjectIds, transport: Transport | None = None) -> None:
        self.max_bytes = _MAX_BYTES
        self.ids = ids
        self.transport = transport or Transport()
        self._settings = settings
        self._looking_up = threading.RLock()
        self._overflow = Overflow(self._ask_api, self.transport)

    def send(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        self._send(rows, deadline, ATTEMPTS)

    def try_once(self, rows: Sequence[bytes], deadline: Deadline) -> None:
        self._send(rows, deadline, 1)

    def _send(self, rows: Sequence[bytes], deadline: Deadline, attempts: int) -> None:
        body = b'{"rows":[' + b",".join(rows) + b'],"api_version":%d}' % _API_VERSION
        url = f"{self._api_url(deadline)}/logs3"
        if len(body) > DEFAULT_LIMIT and self._overflow.is_offered(deadline):
            body = self._overflow.upload(rows, body, deadline)
        try:
            self._checked("POST", url, body, deadline, attempts)
        except BackendRefused as refusal:
            # A server may take less than most do.
            if refusal.status != 413 or len(rows) > 1 or not self._overflow.is_offered(deadline):
                raise
            self._checked("POST", url, self._overflow.upload(rows, body, deadline), deadline, attempts)

    def _ask_api(self, method: str, path: str, body: bytes, deadline: Deadline) -> Answer:
        return self._checked(method, f"{self._api_url(deadline)}{path}", body, deadline)

    def attach(self, one: SpooledAttachment, deadline: Deadline) -> None:
        """Request a signed URL, upload the content, and report the result, as the SDK does."""
        organisation = one.org_id if one.org_id not in ("", ORG_PLACEHOLDER) else self.organisation(deadline).id
        url = f"{self._api_url(deadline)}/attachment"
        about = {"key": one.key, "org_id": organisation}
        asked = {**about, "filename": one.filename, "content_type": one.content_type}
        signed = _json(self._checked("POST", url, json.dumps(asked).encode(), deadline), url)
        error, refusal = one.error and printable(one.error), None
        if one.content is not None:
            try:
                self._put(signed, one.content, deadline)
            except BackendRefused as caught:
                error, refusal = str(caught), caught
        status = {"upload_status": "done"} if error is None else {"upload_status": "error", "error_message": error}
        self._checked("POST", f"{url}/status", json.dumps({**about, "status": status}).encode(), deadline)
        if refusal is not None:
            raise refusal

    def find_attachment(self, key: str) -> Content | None:
        return None

    def _put(self, signed: Mapping[str, Any], content: Content, deadline: Deadline) -> None:
        url, headers = signed.get("signedUrl"), signed.get("headers")
        if not isinstance(url, str) or not is_web_url(url):
            raise BackendUnavailable("the server answered without a signed URL for an attachment")
        wanted = upload_headers(headers, url)
        host = urllib.parse.urlsplit(strip_userinfo(url)).netloc
        wanted["Content-Length"] = str(content.size)
        answer = self.transport.request("PUT", url, content, wanted, deadline, follow=True)
        if 200 <= answer.status < 300:
            return
        said = f"the object store {host} answered {answer.status}: {answer.text}"
        if answer.status in _REFUSED:
            raise BackendRefused(said, status=answer.status)
        # The content may be the cause, but more often a signature has expired or a proxy has answered.
        raise BackendUnavailable(said, status=answer.status, suspect_rows=True)

    def resolve_project(self, name: str, deadline: Deadline) -> str:
        with self._one_at_a_time(deadline):
            return self.ids.project_id(name) or self._find_project(name, deadline)

    def _find_project(self, name: str, deadline: Deadline) -> str:
        organisation = self.organisation(deadline)
        url = f"{self._api_url(deadline)}/v1/project"
        body = json.dumps({"name": name, "org_name": organisation.name}).encode()
        project_id = _json(self._checked("POST", url, body, deadline), url).get("id")
        if not isinstance(project_id, str) or not 0 < len(project_id) <= _LONGEST_ID:
            raise BackendUnavailable(f"{url} answered without a project id")
        self.ids.learn_project(name, project_id)
        return project_id

    def organisation(self, deadline: Deadline) -> Organisation:
        """The organisation of the key. If the key has several, the one of ``BRAINTRUST_ORG_NAME``, else the first.

        Raises:
            BackendError: as in :meth:`send`.
        """
        with self._one_at_a_time(deadline):
            known = self.ids.organisation
            if known is not None and self._settings.org_name in (None, known.name):
                return known
            return self._find_organisation(deadline)

    def _find_organisation(self, deadline: Deadline) -> Organisation:
        wanted = self._settings.org_name
        url = f"{self._settings.app_url.rstrip('/')}/api/apikey/login"
        found = _json(self._checked("POST", url, b"", deadline), url).get("org_info")
        choices = [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
        chosen = next((one for one in choices if wanted in (None, one.get("name"))), None)
        if chosen is None:
            names = ", ".join(sorted(str(one.get("name"))[:100] for one in choices[:_MOST_NAMES])) or "none"
            raise BackendUnauthorized(
                f"the key has no organisation {wanted!r} (it has: {names}): set BRAINTRUST_ORG_NAME to one of them"
            )
        organisation = Organisation(chosen.get("id", ""), chosen.get("name", ""), chosen.get("api_url") or None)
        if self._settings.api_url:
            organisation = organisation._replace(api_url=None)  # rows are not sent there
        if not organisation.is_usable:
            raise BackendUnavailable(f"{url} answered without a usable id, name and API URL of the organisation")
        if organisation.api_url is not None and not keeps_encryption(url, organisation.api_url):
            raise BackendUnavailable(f"{url} names an API URL without encryption: the key is not sent there")
        self.ids.learn_organisation(organisation)
        return organisation

    def query(self, text: str, deadline: Deadline) -> list[dict[str, Any]]:
        """The rows that a SQL query finds, read page by page.

        Args:
            text: a query without ``LIMIT``.

        Raises:
            BackendError: as in :meth:`send`.
        """
        found: list[dict[str, Any]] = []
        cursor = ""
        while True:
            page = self.query_page(f"{text} LIMIT {_PAGE_ROWS}{cursor}", deadline)
            rows = page.get("data")
            found += [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
            following = f" OFFSET '{page.get('cursor')}'"
            if not rows or not isinstance(page.get("cursor"), str) or following == cursor:
                return found
            cursor = following

    def query_page(self, text: str, deadline: Deadline) -> dict[str, Any]:
        """One page of the answer to a SQL query: ``{"data": [...], "cursor": ...}``, with the most recent rows.

        The request is sent once. A large answer is at another URL, to which the service redirects.

        Args:
            text: https://www.braintrust.dev/docs/reference/sql

        Raises:
            BackendError: as in :meth:`send`.
        """
        url = f"{self._api_url(deadline)}/btql"
        asked = {"query": text, "fmt": "json", "use_columnstore": False, "brainstore_realtime": True}
        answer = self._checked("POST", url, json.dumps(asked).encode(), deadline, 1, most_bytes=_PAGE_BYTES)
        if answer.location is not None:
            url = urllib.parse.urljoin(url, answer.location)
            # The URL itself is the permission: an object store refuses a request that carries a key as well.
            answer = self.transport.request("GET", url, b"", {}, deadline, attempts=2, most_bytes=_PAGE_BYTES)
            if answer.status != 200:
                host = urllib.parse.urlsplit(url).netloc
                raise BackendUnavailable(f"{host} answered {answer.status} for a large result", status=answer.status)
        return _json(answer, url)

    def find_projects(self, name: str | None, deadline: Deadline) -> list[tuple[str, str]]:
        """Ids and names of the organisation's projects.

        Args:
            name: only those with this name, or with this id; None for all.

        Raises:
            BackendError: as in :meth:`send`.
        """
        url = f"{self._api_url(deadline)}/v1/project"
        found: dict[str, str] = {}
        while True:
            asked = {"limit": str(_PAGE_PROJECTS), "org_name": self.organisation(deadline).name}
            asked.update({} if name is None else {"project_name": name})
            asked.update({"starting_after": next(reversed(found))} if found else {})
            page = _json(self._checked("GET", f"{url}?{urllib.parse.urlencode(asked)}", b"", deadline), url)
            objects = page.get("objects")
            known = len(found)
            for project in objects if isinstance(objects, list) else ():
                if isinstance(project, dict) and isinstance(project.get("id"), str):
                    found[project["id"]] = str(project.get("name") or project["id"])
            if len(found) - known < _PAGE_PROJECTS:
                break
        if name is None or found:
            return list(found.items())
        try:
            project = _json(self._checked("GET", f"{url}/{urllib.parse.quote(name, safe='')}", b"", deadline), url)
        except (BackendUnavailable, BackendRefused) as error:
            if error.status in (400, 404, 422):
                return []
            raise
        return [(str(project["id"]), str(project.get("name") or name))] if project.get("id") else []

    def close(self) -> None:
        self.transport.close()

    def after_fork(self) -> None:
        """Abandon the parent's connections and locks. Called in a forked child."""
        self._looking_up = threading.RLock()
        self.transport.after_fork()

    @contextlib.contextmanager
    def _one_at_a_time(self, deadline: Deadline) -> Iterator[None]:
        """Serialise look-ups, as the early look-up and the first delivery often need the same."""
        if not self._looking_up.acquire(timeout=min(deadline.remaining, threading.TIMEOUT_MAX)):
            raise BackendUnavailable("the organisation or project could not be looked up in time")
        try:
            yield
        finally:
            self._looking_up.release()

    def _api_url(self, deadline: Deadline) -> str:
        """The URL of the organisation's API. For a separate data plane only the login knows it."""
        if self._settings.api_url:
            return self._settings.api_url.rstrip("/")
        return (self.organisation(deadline).api_url or DEFAULT_API_URL).rstrip("/")

    def _checked(
        self, method: str, url: str, body: bytes, deadline: Deadline, attempts: int = ATTEMPTS, *,
        most_bytes: int = MOST_BYTES,
    ) -> Answer:
        if not is_web_url(url):
            raise BackendUnavailable("BRAINTRUST_API_URL or BRAINTRUST_APP_URL is not a URL of http or https")
        key = self._settings.api_key or ""
        if not key:
            raise BackendUnauthorized("BRAINTRUST_API_KEY is not set")
        if not fits_header(key):  # a login at run time can have any URL
            raise BackendUnauthorized(f"the API key is not accepted: it takes {ACCEPTED_KEY}")
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        answer = self.transport.request(
            method, url, body, headers, deadline, attempts=attempts, most_bytes=most_bytes
        )
        if 200 <= answer.status < 300 or (answer.status == 303 and answer.location):
            return answer
        host = urllib.parse.urlsplit(strip_userinfo(url)).netloc
        said = f"{host} answered {answer.status}: {answer.text}"
        if url.endswith("/logs3") and "project" in answer.text.lower():
            said += "; check the project's id (TRACE_GUARD_PROJECT_ID, BRAINTRUST_PROJECT_ID or project_id=)"
        if answer.status in (401, 403):
            raise BackendUnauthorized(f"{said}; check BRAINTRUST_API_KEY and what it may write to")
        if answer.status in _REFUSED:
            raise BackendRefused(said, status=answer.status)
        # A wrong URL, a proxy's page or a redirect affects all rows; a firewall or a bug may affect only some.
        raise BackendUnavailable(
            f"{said}; check BRAINTRUST_API_URL and BRAINTRUST_APP_URL", status=answer.status, suspect_rows=True
        )


def _json(answer: Answer, url: str) -> dict[str, Any]:
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError) as error:
        raise BackendUnavailable(f"{url} did not answer with JSON: {answer.text}") from error
    return found if isinstance(found, dict) else {}
