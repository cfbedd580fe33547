"""The endpoints of Braintrust that tracing needs, in one table, when nothing fails."""

from __future__ import annotations

import hmac
import json
import uuid
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs

from ..rows import Row
from .braintrust_objects import OBJECT_ROUTES, ObjectsApi
from .http_wire import Request, Response
from .loopback import Route, find_route
from .queries_api import QueriesApi, QueryRefused
from .row_store import RowsRefused, RowStore

__all__ = ["ROUTES", "BraintrustApi", "rows_in"]

ROUTES: Sequence[Route] = (
    Route("GET", "/ping", "ping"),
    Route("GET", "/version", "version"),
    Route("POST", "/api/apikey/login", "login"),
    Route("POST", "/api/project/register", "register_project"),
    Route("POST", "/v1/project", "make_project"),
    Route("GET", "/v1/project", "list_projects"),
    Route("GET", "/v1/project/{id}", "get_project"),
    Route("GET", "/api/project", "find_project"),
    Route("POST", "/logs3", "logs3"),
    Route("POST", "/v1/project_logs/{id}/insert", "insert"),
    Route("POST", "/btql", "btql"),
    Route("GET", "/overflow/{key}", "overflow"),
    Route("POST", "/attachment", "attachment"),
    Route("GET", "/attachment", "get_attachment"),
    Route("PUT", "/attachment/upload/{key}", "upload"),
    Route("GET", "/attachment/upload/{key}", "download"),
    Route("POST", "/attachment/status", "attachment_status"),
    *OBJECT_ROUTES,
)

_WITHOUT_KEY = ("version", "upload", "download", "overflow")


class BraintrustApi(ObjectsApi):
    """Answers requests from a :class:`RowStore`. The table above names each method below.

    Args:
        url: the API's URL, for answers that contain it.
        api_keys: the accepted keys; None accepts every bearer token.
        organizations: names of the key's organisations.
        max_body_bytes: rows in a longer body are answered with 413.

    Attributes:
        attachments: uploaded contents by key.
        queries: answers queries, within limits that can be set.
        attachment_statuses: reported statuses by key; ``{"upload_status": "uploading"}`` before the first report.
    """

    def __init__(
        self,
        store: RowStore,
        url: str,
        api_keys: Collection[str] | None,
        organizations: Sequence[str] | Mapping[str, str],
        max_body_bytes: int,
    ) -> None:
        super().__init__(store)
        self.attachments: dict[str, bytes] = {}
        self.attachment_statuses: dict[str, Mapping[str, Any]] = {}
        self._secret = uuid.uuid4().hex
        self.max_body_bytes = max_body_bytes
        self._url = url
        self._by_key = dict(organizations) if isinstance(organizations, Mapping) else {}
        self._api_keys = set(self._by_key) if self._by_key else api_keys
        names = self._by_key.values() if self._by_key else organizations
        self._organizations = {name: str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in names}
        self.project_organizations: dict[str, str] = {}
        self.queries = QueriesApi(store, url, self._may_read)

    def answer(self, request: Request) -> Response:
        """The response to a request. A 4xx explains what is wrong."""
        found = find_route(ROUTES, request)
        if found is None:
            return _error(404, f"no such endpoint: {request.method} {request.path}")
        route, fields = found
        if route.name not in _WITHOUT_KEY and not self._accepts(request.headers.get("authorization", "")):
            return _error(401, "the API key is not accepted")
        handler: Callable[..., Response] = getattr(self, route.name)
        try:
            return handler(request, **fields)
        except (RowsRefused, QueryRefused, _Malformed) as error:
            return _error(400, str(error))

    def _accepts(self, authorization: str) -> bool:
        scheme, _, key = authorization.partition(" ")
        return scheme == "Bearer" and bool(key) and (self._api_keys is None or key in self._api_keys)

    def ping(self, request: Request) -> Response:
        return Response.json({})

    def version(self, request: Request) -> Response:
        return Response.json({})  # without logs3_payload_max_bytes, which changes how the SDK sends large bodies

    def login(self, request: Request) -> Response:
        common = {"api_url": self._url, "proxy_url": self._url, "git_metadata": None}
        own = self._organization(request)
        organizations = [
            {"id": id, "name": name, **common} for name, id in self._organizations.items() if own in (None, name)
        ]
        return Response.json({"org_info": organizations})

    def register_project(self, request: Request) -> Response:
        name = _text(_object(request), "project_name")
        return Response.json({"project": {"id": self._add_project(request, name), "name": name}})

    def make_project(self, request: Request) -> Response:
        name = _text(_object(request), "name")
        return Response.json(self._project(self._add_project(request, name), name))

    def list_projects(self, request: Request) -> Response:
        asked, own = parse_qs(request.query), self._organization(request)
        wanted, after = asked.get("project_name"), asked.get("starting_after", [""])[0]
        found = [
            (id, name) for id, name in self._store.projects().items()
            if (not wanted or name in wanted) and self.project_organizations.get(id, own) == own
        ]
        ids = [id for id, _ in found]
        start = ids.index(after) + 1 if after in ids else 0
        limit = int(asked.get("limit", ["1000"])[0])
        return Response.json({"objects": [self._project(*one) for one in found[start : start + limit]]})

    def get_project(self, request: Request, id: str) -> Response:
        name = self._store.projects().get(id)
        return _error(404, f"no project {id}") if name is None else Response.json(self._project(id, name))

    def find_project(self, request: Request) -> Response:
        return self.get_project(request, parse_qs(request.query).get("id", [""])[0])

    def logs3(self, request: Request) -> Response:
        if len(request.body) > self.max_body_bytes:
            return _error(413, f"the body has {len(request.body)} bytes, more than {self.max_body_bytes}")
        body = _object(request)
        if not isinstance(body.get("api_version"), int):
            raise _Malformed("api_version must be a number")
        rows, own = _rows(body, "rows"), self._organization(request)
        for row in rows:
            if self.project_organizations.get(row.get("project_id", ""), own) != own:
                raise RowsRefused(f"row {row.get('id')} is of a project that the key may not write to")
        return Response.json({"ids": self._store.write(rows)})

    def insert(self, request: Request, id: str) -> Response:
        if len(request.body) > self.max_body_bytes:
            return _error(413, f"the body has {len(request.body)} bytes, more than {self.max_body_bytes}")
        events = _rows(_object(request), "events")
        rows = [{"id": str(uuid.uuid4()), **event, "project_id": id, "log_id": "g"} for event in events]
        return Response.json({"row_ids": self._store.write(rows)})

    def btql(self, request: Request) -> Response:
        return self.queries.answer(request, _object(request))

    def overflow(self, request: Request, key: str) -> Response:
        return self.queries.large_answer(key)

    def attachment(self, request: Request) -> Response:
        told = _object(request)
        key = _text(told, "key")
        if not self._is_of_own_organization(request, str(told.get("org_id"))):
            return _error(403, "the attachment is for another organization")
        with self._store.changed:
            self.attachment_statuses.setdefault(key, {"upload_status": "uploading"})
        return Response.json({"signedUrl": self._signed("PUT", key), "headers": {"x-amz-meta-signed": key}})

    def get_attachment(self, request: Request) -> Response:
        asked = parse_qs(request.query)
        wanted = asked.get("key", [""])[0]
        if not self._is_of_own_organization(request, asked.get("org_id", [""])[0]):
            return _error(403, "the attachment is of another organization")
        status = self.attachment_statuses.get(wanted)
        if status is None:
            return _error(404, f"no attachment {wanted}")
        return Response.json({"downloadUrl": self._signed("GET", wanted), "status": status})

    def upload(self, request: Request, key: str) -> Response:
        """The object store. It checks the signature in the URL, not an API key."""
        if not self._is_signed(request, key):
            return _error(403, "SignatureDoesNotMatch")
        with self._store.changed:
            self.attachments[key] = request.body
            self._store.changed.notify_all()
        return Response(200)

    def download(self, request: Request, key: str) -> Response:
        if not self._is_signed(request, key):
            return _error(403, "SignatureDoesNotMatch")
        found = self.attachments.get(key)
        return _error(404, "NoSuchKey") if found is None else Response(200, found)

    def attachment_status(self, request: Request) -> Response:
        told = _object(request)
        key, status = _text(told, "key"), told.get("status")
        if not self._is_of_own_organization(request, str(told.get("org_id"))):
            return _error(403, "the attachment is of another organization")
        if not isinstance(status, dict):
            raise _Malformed("status must be an object")
        with self._store.changed:
            self.attachment_statuses[key] = status
            self._store.changed.notify_all()
        return Response.json({})

    def _organization(self, request: Request) -> str | None:
        """The organisation of a request's key, where keys have one each."""
        return self._by_key.get(request.headers.get("authorization", "").removeprefix("Bearer "))

    def _is_of_own_organization(self, request: Request, org_id: str) -> bool:
        own = self._organization(request)
        return own is None or self._organizations[own] == org_id

    def _may_read(self, request: Request, project_id: str) -> bool:
        own = self._organization(request)
        return self.project_organizations.get(project_id, own) == own

    def _add_project(self, request: Request, name: str) -> str:
        own = self._organization(request)
        if own is None:
            return self._store.add_project(name)
        made = self._store.add_project(name, str(uuid.uuid5(uuid.NAMESPACE_DNS, f"{own}/{name}")))
        self.project_organizations[made] = own
        return made

    def _signed(self, method: str, key: str) -> str:
        return f"{self._url}/attachment/upload/{key}?signature={self._signature(method, key)}"

    def _signature(self, method: str, key: str) -> str:
        return hmac.new(self._secret.encode(), f"{method} {key}".encode(), "sha256").hexdigest()

    def _is_signed(self, request: Request, key: str) -> bool:
        return parse_qs(request.query).get("signature") == [self._signature(request.method, key)]

    def _project(self, id: str, name: str) -> dict[str, str]:
        return {"id": id, "name": name, "org_id": next(iter(self._organizations.values()))}


class _Malformed(ValueError):
    """The body does not match the endpoint."""


def rows_in(body: bytes) -> list[Row]:
    """The rows or events in a request's body; empty if it has none or is malformed."""
    try:
        value = json.loads(body) if body else None
    except ValueError:
        return []
    found = (value.get("rows") or value.get("events")) if isinstance(value, dict) else None
    return [row for row in found if isinstance(row, dict)] if isinstance(found, list) else []


def _object(request: Request) -> Mapping[str, Any]:
    try:
        value = json.loads(request.body)
    except ValueError as error:
        raise _Malformed(f"the body is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise _Malformed("the body must be a JSON object")
    return value


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise _Malformed(f"{name} must be a text that is not empty")
    return value


def _rows(body: Mapping[str, Any], name: str) -> list[Row]:
    rows = body.get(name)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise _Malformed(f"{name} must be a list of objects")
    return rows


def _error(status: int, message: str) -> Response:
    return Response.json({"error": message}, status)
