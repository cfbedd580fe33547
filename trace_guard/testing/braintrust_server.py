"""A simulated Braintrust on the loopback address: keeps rows as the service does, and fails on request.

::

    with BraintrustServer() as server:
        for name in ("BRAINTRUST_APP_URL", "BRAINTRUST_API_URL"):
            os.environ[name] = server.url
        server.fail("/logs3", Fault.status(503, retry_after=1), times=2)
        ...
        server.wait_for(lambda: server.span_rows() and not server.open_spans(), timeout=5)

One server acts as both the application and the API. Its answers follow the public API reference and what the SDK
sends. They were not compared with the live service.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from ..rows import Row, has_ended
from .braintrust_api import ROUTES, BraintrustApi, rows_in
from .faults import Exchange, Fault, Faults
from .http_wire import Request, Response
from .loopback import LoopbackServer, find_route, is_loopback_host
from .row_store import RowStore

__all__ = ["BraintrustServer", "RecordedRequest"]


@dataclass(frozen=True)
class RecordedRequest:
    """A request that arrived, answered or not.

    Attributes:
        at: when it had arrived completely, in seconds since the epoch.
        authorization: the ``Authorization`` header, or None.
        rows: the rows in the body as they were sent.
    """

    method: str
    path: str
    at: float
    authorization: str | None
    body: bytes = field(repr=False)
    rows: Sequence[Row] = field(repr=False)


class BraintrustServer(LoopbackServer):
    """Listens from its creation until :meth:`close` or the end of the ``with`` block.

    Args:
        api_keys: the accepted keys; None accepts every bearer token. Other keys get a 401.
        latency: seconds that are added to every request, half before it is handled and half after.
        organizations: names of the key's organisations.
        max_body_bytes: rows in a longer body are answered with 413.
        queries_per_minute: more queries are answered with 429 and ``Retry-After``.
        max_query_rows: a query whose filter on time or ids leaves more rows than this is answered with 504, as one that
            takes too long.
        max_answer_bytes: a longer answer to a query is left at another URL, to which a 303 leads.
        port: where to listen; by default a free port.
        store: where rows are kept; by default in memory.
        kept_requests: how many of the newest requests :attr:`requests` has; by default all.

    ``latency`` and ``max_body_bytes`` can be set at any time. The address is :attr:`url`. A request whose ``Host`` is
    not a name of the loopback address is answered with 403, so that no web page can reach the server by a name of
    its own. Queries need ``sqlglot`` (extra ``testing``).
    """

    def __init__(
        self,
        api_keys: Collection[str] | None = None,
        *,
        latency: float = 0.0,
        organizations: Sequence[str] | Mapping[str, str] = ("organization",),
        max_body_bytes: int = 6 * 1024 * 1024,
        queries_per_minute: int | None = None,
        max_query_rows: int | None = None,
        max_answer_bytes: int | None = None,
        port: int = 0,
        store: RowStore | None = None,
        kept_requests: int | None = None,
    ) -> None:
        self.latency = latency
        self._store = store or RowStore()
        self._faults = Faults()
        self._requests: deque[RecordedRequest] = deque(maxlen=kept_requests)
        super().__init__(start=False, port=port)
        self._api = BraintrustApi(self._store, self.url, api_keys, organizations, max_body_bytes)
        self._api.queries.per_minute = queries_per_minute
        self._api.queries.most_scanned = max_query_rows
        self._api.queries.most_bytes = max_answer_bytes
        self.accept_connections()

    def __enter__(self) -> BraintrustServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def max_body_bytes(self) -> int:
        """The largest body that is accepted, in bytes; a larger one is answered with 413."""
        return self._api.max_body_bytes

    @max_body_bytes.setter
    def max_body_bytes(self, value: int) -> None:
        self._api.max_body_bytes = value

    # Faults

    def fail(self, endpoint: str, fault: Fault, times: int | None = None) -> None:
        """Make the next ``times`` requests to an endpoint fail, or all of them until :meth:`heal`.

        Several faults of one endpoint apply in the order of the calls.

        Args:
            endpoint: a path as in :data:`.braintrust_api.ROUTES`, such as ``/logs3`` or ``/v1/project/{id}``;
                ``*`` means every endpoint.
        """
        known = {route.path for route in ROUTES}
        if endpoint != "*" and endpoint not in known:
            raise ValueError(f"{endpoint} is not one of * {' '.join(sorted(known))}")
        self._faults.add(endpoint, fault, times)

    def heal(self, endpoint: str | None = None) -> None:
        """End the faults of one endpoint, or all, and release the requests that wait in them.

        Refused connections stay refused until :meth:`accept_connections`.
        """
        self._faults.heal(endpoint)

    def release_waiting(self) -> None:
        self._faults.release()

    # Requests and rows

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request so far, in order of arrival."""
        with self._store.changed:
            return list(self._requests)

    def requests_to(self, path: str) -> list[RecordedRequest]:
        """The requests to one URL path."""
        return [request for request in self.requests if request.path == path]

    def rows(self) -> list[Row]:
        """Every stored row, merged, without ``_is_merge``, in order of first arrival."""
        return [stored.row for stored in self._store.all()]

    def span_rows(self) -> list[Row]:
        """The rows that are spans."""
        return [row for row in self.rows() if row.get("span_id")]

    def open_spans(self) -> list[Row]:
        """The spans without ``metrics.end``, which Braintrust shows as in progress."""
        return [row for row in self.span_rows() if not has_ended(row)]

    def wait_for(self, predicate: Callable[[], Any], timeout: float) -> bool:
        """Wait until ``predicate`` is true. It is checked whenever a request or its rows arrive.

        Raises:
            TimeoutError: it was not true within ``timeout`` seconds; the message lists what arrived.
        """
        with self._store.changed:
            if self._store.changed.wait_for(predicate, timeout):
                return True
            counts = Counter(f"{request.method} {request.path}" for request in self._requests)
            came = ", ".join(f"{count} x {name}" for name, count in counts.items()) or "no request"
            spans, still_open = len(self.span_rows()), len(self.open_spans())
            raise TimeoutError(
                f"not so after {timeout:g} s: {spans} spans, {still_open} of them open, {len(self.rows())} rows "
                f"in all; received {came}"
            )

    def add_project(self, name: str, id: str | None = None) -> str:
        """Create a project and return its id, which is random by default."""
        return self._store.add_project(name, id)

    @property
    def prompts(self) -> dict[str, str]:
        """The text of each prompt, by slug; to be added to."""
        return self._api.prompts

    @property
    def parameters(self) -> dict[str, dict[str, Any]]:
        """The values of each set of parameters, by slug; to be added to."""
        return self._api.parameters

    def answer_functions(self, function: Callable[[Mapping[str, Any]], Any]) -> None:
        """Have ``invoke`` answer with what ``function`` returns for the request's body; by default its input."""
        self._api.functions = function

    @property
    def project_organizations(self) -> Mapping[str, str]:
        """The organisation's name by project id, where keys have an organisation each."""
        return dict(self._api.project_organizations)

    @property
    def attachments(self) -> dict[str, bytes]:
        """Uploaded contents by key."""
        return dict(self._api.attachments)

    @property
    def attachment_statuses(self) -> dict[str, Mapping[str, Any]]:
        """The reported status of each attachment by key: ``upload_status`` is ``uploading``, ``done`` or ``error``."""
        return dict(self._api.attachment_statuses)

    def clear(self) -> None:
        """Forget requests, rows and attachments. Projects and faults stay."""
        with self._store.changed:
            self._requests.clear()
            self._api.attachments.clear()
            self._api.attachment_statuses.clear()
            self._store.clear()

    # Answering

    def respond(self, request: Request) -> Response | None:
        if not is_loopback_host(request.headers.get("host", "")):
            return Response.json({"error": "the Host header does not name the loopback address"}, 403)
        rows = rows_in(request.body)
        self._record(request, rows)
        half_trip = self.latency / 2
        self.closing.wait(half_trip)
        found = find_route(ROUTES, request)
        taken = self._faults.take(found[0].path, rows) if found else None
        if taken is None:
            response: Response | None = self._api.answer(request)
        else:
            fault, over = taken
            response = fault.injure(Exchange(request, rows, lambda: self._api.answer(request), over))
        self.closing.wait(half_trip)
        return response

    def _record(self, request: Request, rows: Sequence[Row]) -> None:
        authorization = request.headers.get("authorization")
        with self._store.changed:
            self._requests.append(
                RecordedRequest(request.method, request.path, time.time(), authorization, request.body, rows)
            )
            self._store.changed.notify_all()
