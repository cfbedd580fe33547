"""``POST /btql``: parses a query, answers it from the store, and keeps the limits of the service.

The answer's form is that of https://www.braintrust.dev/docs/api-reference/query.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .braintrust_objects import object_id
from .http_wire import Request, Response
from .query_engine import QueryTooLarge, run_query
from .query_syntax import ParsedQuery, QueryRefused, QueryUnavailable, parse_query
from .row_store import RowStore

__all__ = ["QueriesApi", "QueryRefused"]

_MINUTE = 60.0


class QueriesApi:
    """Answers queries.

    Args:
        url: the API's URL.
        may_read: tells if the key of a request may read a project.

    Attributes:
        per_minute: more queries in a minute are answered with 429 and ``Retry-After``; None for no limit.
        most_scanned: a query that has to read more rows is answered with 504; None for no limit.
        most_bytes: a longer answer is left at another URL, and the query is answered with 303; None for no limit.
    """

    def __init__(self, store: RowStore, url: str, may_read: Callable[[Request, str], bool]) -> None:
        self.per_minute: int | None = None
        self.most_scanned: int | None = None
        self.most_bytes: int | None = None
        self._store = store
        self._url = url
        self._may_read = may_read
        self._lock = threading.Lock()
        self._recent: deque[float] = deque()
        self._large: dict[str, Response] = {}

    def answer(self, request: Request, body: Mapping[str, Any]) -> Response:
        """The answer to a query.

        Raises:
            QueryRefused: the query is not understood.
        """
        wait = self._seconds_to_wait()
        if wait:
            return _error(429, "too many queries", {"Retry-After": f"{wait:.0f}"})
        asked, cursor, form = body.get("query"), body.get("cursor"), body.get("fmt") or "json"
        if not isinstance(asked, (str, Mapping)) or not asked:
            raise QueryRefused("query must be a text that is not empty, or a parsed query")
        if form not in ("json", "jsonl"):
            raise QueryRefused(f"fmt is json or jsonl here, not {form!r}")
        try:
            query = parse_query(asked, cursor if isinstance(cursor, str) else None)
        except QueryUnavailable as error:
            return _error(501, str(error))
        objects = [found for name in query.names for found in self._objects(query, name)]
        if not all(self._may_read(request, found) for found in objects):
            return _error(403, f"no read access to {query.source} {', '.join(query.names)}")
        try:
            page = self._store.read(lambda connection: run_query(query, connection, objects, self.most_scanned))
        except QueryTooLarge as error:
            return _error(504, str(error))
        if form == "jsonl":
            headers = {"Content-Type": "application/x-ndjson", **({"x-bt-cursor": page.cursor} if page.cursor else {})}
            response = Response(200, "".join(f"{json.dumps(row)}\n" for row in page.rows).encode(), headers)
        else:
            columns: dict[str, object] = {name: {} for row in page.rows for name in row}
            schema = {"type": "array", "items": {"type": "object", "properties": columns}}
            common = {"schema": schema, "freshness_state": {}, "warnings": []}
            response = Response.json({"data": page.rows, "cursor": page.cursor, **common})
        return self._redirected(response)

    def large_answer(self, key: str) -> Response:
        """The answer to which a 303 has led. The URL is the permission, and works once."""
        with self._lock:
            return self._large.pop(key, None) or _error(404, "NoSuchKey")

    def _redirected(self, response: Response) -> Response:
        if self.most_bytes is None or len(response.body) <= self.most_bytes:
            return response
        key = uuid.uuid4().hex
        with self._lock:
            self._large[key] = response
        return Response(303, b"", {"Location": f"{self._url}/overflow/{key}"})

    def _seconds_to_wait(self) -> float:
        with self._lock:
            now = time.monotonic()
            while self._recent and self._recent[0] < now - _MINUTE:
                self._recent.popleft()
            if self.per_minute is not None and len(self._recent) >= self.per_minute:
                return max(1.0, self._recent[0] + _MINUTE - now)
            self._recent.append(now)
            return 0.0

    def _objects(self, query: ParsedQuery, name: str) -> list[str]:
        """The ids that a name or an id of the source means."""
        if query.source in ("project_logs", "project_prompts"):
            return [id for id, known in self._store.projects().items() if name in (id, known)] or [name]
        return [name, object_id(query.source, name)]


def _error(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    return Response.json({"error": message}, status, headers)
