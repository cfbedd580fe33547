"""Functions with the FastAPI extension, for which the worker itself answers requests over HTTP."""

from __future__ import annotations

import signal
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from azure_host.deployment import Deployment, Deployments, named, outcome_of, root_of
from azure_host.installation import needs_runtime
from support import PROJECT_ID, delivered, until

pytestmark = needs_runtime


class Client:
    """Sends each request twice, as the host does: to the worker's own port, and as an invocation without a body."""

    def __init__(self, app: Deployment) -> None:
        self.app = app
        # One connection for each request, because the worker's server closes it after an error.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(base_url=app.host.start().capabilities["HttpUri"], timeout=30, limits=limits)
        self.begun: Future[Any] | None = None

    def _begin(self, function: str, params: dict[str, str]) -> dict[str, str]:
        self.app.server.clear()
        invocation_id = str(uuid.uuid4())
        bare = {"http": {"method": "GET", "url": f"https://shop.azurewebsites.net/api/{function}", "query": params}}
        self.begun = self.app.host.begin(function, (bare, {}), invocation_id=invocation_id)
        return {"x-ms-invocation-id": invocation_id}

    def stream(self, function: str, **params: str) -> Any:
        return self._http.stream("GET", f"/api/{function}", headers=self._begin(function, params), params=params)

    def request(
        self, method: str, function: str, json: Any = None, headers: Mapping[str, str] | None = None, **params: str
    ) -> httpx.Response:
        headers = {**(headers or {}), **self._begin(function, params)}
        return self._http.request(method, f"/api/{function}", headers=headers, params=params, json=json)

    def read_alone(self, function: str) -> str:
        """Read the body of a request that may run concurrently with others."""
        invocation_id = str(uuid.uuid4())
        begun = self.app.host.begin(function, ({"http": {"method": "GET"}}, {}), invocation_id=invocation_id)
        response = self._http.get(f"/api/{function}", headers={"x-ms-invocation-id": invocation_id})
        assert self.app.host.result(begun).ok
        return response.text

    def result(self) -> Any:
        assert self.begun is not None
        return self.app.host.result(self.begun)

    def close(self) -> None:
        self._http.close()


@pytest.fixture(scope="module")
def client(deploy: Deployments) -> Iterator[Client]:
    client = Client(deploy("azure_streaming"))
    yield client
    client.close()


@pytest.mark.parametrize("function", ["stream", "stream-sync"])
def test_a_stream_is_one_trace(client: Client, function: str) -> None:
    """A streamed body reaches the client in pieces, and its complete trace is delivered by the time the last byte
    arrives."""
    name = function.replace("-", "_")
    response = client.request("GET", name)
    rows = client.app.server.span_rows()
    assert response.text == "piece 0\npiece 1\npiece 2\n"
    root = root_of(rows)
    assert outcome_of(root) == "ok"
    assert root["output"] == {"status_code": 200, "body": response.text}
    assert client.result().ok
    if name == "stream":
        assert set(named(rows)) == {root["span_attributes"]["name"], "piece 0", "piece 1", "piece 2"}
        assert all(row["metrics"]["end"] <= root["metrics"]["end"] for row in rows)


def test_streams_at_once(client: Client) -> None:
    """Each of ten bodies that are streamed concurrently has its own trace with only its own pieces."""
    client.app.server.clear()
    with ThreadPoolExecutor(10) as clients:
        texts = list(clients.map(client.read_alone, ["stream"] * 10))
    assert set(texts) == {"piece 0\npiece 1\npiece 2\n"}
    rows = client.app.server.span_rows()
    roots = [row["span_id"] for row in rows if not row["span_parents"]]
    below = sorted((row["span_parents"][0], row["span_attributes"]["name"]) for row in rows if row["span_parents"])
    assert len(roots) == 10
    assert below == [(root, f"piece {number}") for root in sorted(roots) for number in range(3)]


def test_a_stream_that_breaks_is_an_error(client: Client) -> None:
    """An exception in the middle of a body ends the connection as without the guard, and makes the trace an error."""
    with pytest.raises(httpx.RemoteProtocolError), client.stream("stream", last="raise") as response:
        response.read()
    until(lambda: delivered(client.app.server))
    root = root_of(client.app.server.span_rows())
    assert outcome_of(root) == "error"
    assert root["error"].rstrip().endswith("LookupError: no more pieces")


def test_a_client_that_leaves_ends_the_trace(client: Client) -> None:
    """A client disconnect in the middle of a body closes the trace."""
    with client.stream("stream", last="wait") as response:
        assert next(response.iter_lines()) == "piece 0"
    until(lambda: delivered(client.app.server))
    root_of(client.app.server.span_rows())


def test_complete_responses(client: Client) -> None:
    """Other responses and requests of the extension pass unchanged, and a 5xx makes the trace an error."""
    response = client.request("POST", "as_json", json={"q": "?"})
    assert response.json() == {"asked": {"q": "?"}}
    root = root_of(client.app.server.span_rows())
    assert outcome_of(root) == "ok"
    assert root["input"]["body"] == {"q": "?"}
    assert client.request("POST", "as_json", json={}, code="503").status_code == 503
    assert outcome_of(root_of(client.app.server.span_rows())) == "error"


def test_an_exception_before_the_response(client: Client) -> None:
    """An exception before the response reaches the host and the trace."""
    assert client.request("GET", "fails").status_code == 500
    assert client.result().error == "LookupError: no such order"
    assert outcome_of(root_of(client.app.server.span_rows())) == "error"


def test_a_caller_in_braintrust_is_the_parent(client: Client) -> None:
    """A request whose headers name a Braintrust span has its trace below that span."""
    trace, span = "a" * 32, "b" * 16
    client.request("POST", "as_json", json={}, headers={
        "traceparent": f"00-{trace}-{span}-01", "baggage": f"braintrust.parent=project_id%3A{PROJECT_ID}",
    })
    (row,) = client.app.server.span_rows()
    assert (row["span_parents"], row["root_span_id"]) == ([span], trace)


def test_sigterm_in_the_middle_of_a_body(deploy: Deployments) -> None:
    """SIGTERM in the middle of a body closes its trace as terminated and delivers it, whether or not the worker's
    HTTP server handles the signal and waits for the body until it is killed."""
    client = Client(deploy("azure_streaming", ENDS="yes"))
    server = client.app.server
    with client.stream("stream", last="wait") as response:
        lines = response.iter_lines()
        assert [next(lines) for _ in range(3)] == ["piece 0", "piece 1", "piece 2"]
        client.app.host.signal(signal.SIGTERM)
        until(lambda: delivered(server) and outcome_of(root_of(server.span_rows())) == "terminated")
        client.app.host.kill()
    client.close()
    assert server.open_spans() == []
