"""The simulated Braintrust: what it stores, what it refuses, and how it fails."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from trace_guard.testing import BraintrustServer, Fault, RecordedRequest


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: Any


class Client:
    """One kept-alive connection to a server."""

    def __init__(self, server: BraintrustServer, *, key: str = "key", timeout: float = 10.0) -> None:
        self._key = key
        self._connection = http.client.HTTPConnection(server.address, timeout=timeout)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: object = None) -> Reply:
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        try:
            self._connection.request(method, path, data, {"Authorization": f"Bearer {self._key}"})
            response = self._connection.getresponse()
        except OSError:
            self._connection.close()  # So that the next call connects anew.
            raise
        text = response.read()
        return Reply(response.status, dict(response.getheaders()), json.loads(text) if text else None)

    def log(self, *rows: dict[str, Any]) -> Reply:
        return self.call("POST", "/logs3", {"rows": rows, "api_version": 2})

    def query(self, text: str) -> Reply:
        return self.call("POST", "/btql", {"query": text, "fmt": "json"})


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer() as server:
        server.add_project("p", "P")
        yield server


@pytest.fixture
def client(server: BraintrustServer) -> Iterator[Client]:
    with Client(server) as client:
        yield client


def row(id: str = "a", **fields: Any) -> dict[str, Any]:
    ids = {"id": id, "span_id": f"s{id}", "root_span_id": f"r{id}", "span_parents": None}
    return {**ids, "project_id": "P", "log_id": "g", **fields}


def merge(id: str = "a", **fields: Any) -> dict[str, Any]:
    return row(id, _is_merge=True, **fields)


# What it keeps


def test_a_merge_is_merged_deeply_into_the_stored_row_whose_ids_stay(server: BraintrustServer, client: Client) -> None:
    """A merge is merged deeply into the stored row, whose ids stay."""
    client.log(row(metrics={"start": 1.0}, metadata={"a": {"b": 1}}, tags=["x"]))
    client.log(merge(metrics={"end": 2.0}, metadata={"a": {"c": 2}}, tags=["y"], span_id="other", root_span_id="other"))
    assert server.rows() == [row(metrics={"start": 1.0, "end": 2.0}, metadata={"a": {"b": 1, "c": 2}}, tags=["x", "y"])]


def test_a_merge_of_an_unknown_row_is_stored(server: BraintrustServer, client: Client) -> None:
    """A merge of an unknown row is stored."""
    client.log(merge(metrics={"end": 2.0}))
    assert server.rows() == [row(metrics={"end": 2.0})]


def test_a_row_that_is_not_a_merge_replaces_the_stored_one(server: BraintrustServer, client: Client) -> None:
    """A row that is not a merge replaces the stored one, so that a late start row opens a closed span again."""
    client.log(merge(metrics={"start": 1.0, "end": 2.0}, output="answer"))
    assert server.open_spans() == []
    client.log(row(_is_merge=False, metrics={"start": 1.0}))
    assert server.open_spans() == [row(metrics={"start": 1.0})]


def test_rows_of_different_objects_are_different_rows(server: BraintrustServer, client: Client) -> None:
    """Rows with one id in different projects and experiments are different rows."""
    other = server.add_project("other")
    client.log(
        row(), row(project_id=other), {"id": "a", "experiment_id": "E", "span_id": "s"}, {"id": "a", "dataset_id": "D"}
    )
    assert (len(server.rows()), len(server.span_rows())) == (4, 3)


def test_a_deleted_row_is_gone(server: BraintrustServer, client: Client) -> None:
    """A row with _object_delete removes the stored one."""
    client.log(row("a"), row("b"))
    client.log(row("a", _object_delete=True))
    assert server.rows() == [row("b")]


def test_inserted_events_are_stored_as_project_logs(server: BraintrustServer, client: Client) -> None:
    """Inserted events become rows of the project's logs."""
    reply = client.call("POST", "/v1/project_logs/P/insert", {"events": [{"id": "a", "input": 1}, {"input": 2}]})
    (first, second) = server.rows()
    assert (reply.status, reply.body) == (200, {"row_ids": ["a", second["id"]]})
    assert (first, second["input"]) == ({"id": "a", "input": 1, "project_id": "P", "log_id": "g"}, 2)


def test_attachments_are_kept(server: BraintrustServer, client: Client) -> None:
    """An attachment is uploaded through a signed URL of the server, and is kept."""
    url = client.call("POST", "/attachment", {"key": "k1", "filename": "f"}).body["signedUrl"]
    assert client.call("PUT", url.removeprefix(server.url), b"\x00bytes").status == 200
    assert client.call("POST", "/attachment/status", {"key": "k1", "status": {}}).status == 200
    assert server.attachments == {"k1": b"\x00bytes"}


def test_clear_forgets_rows_and_requests_but_not_projects(server: BraintrustServer, client: Client) -> None:
    """After clear there are no rows and no requests, and the projects are still known."""
    client.log(row())
    server.clear()
    assert (server.rows(), server.requests) == ([], [])
    assert client.log(row()).status == 200


# Who is who


def test_a_project_is_made_by_name_once_and_found_by_name_and_id(server: BraintrustServer, client: Client) -> None:
    """Either endpoint creates a project once by name; it is then found by name and by id."""
    made = client.call("POST", "/v1/project", {"name": "new", "org_name": "organization"}).body
    assert client.call("POST", "/api/project/register", {"project_name": "new"}).body == {
        "project": {"id": made["id"], "name": "new"}
    }
    assert client.call("GET", f"/v1/project/{made['id']}").body == made
    assert client.call("GET", "/v1/project?project_name=new").body == {"objects": [made]}
    assert client.call("GET", "/v1/project/unknown").status == 404
    assert client.log(row(project_id=made["id"])).status == 200


def test_login_names_every_organization_and_the_way_to_it() -> None:
    """The login returns every organisation, with the server's URL as its API URL."""
    with BraintrustServer(organizations=("one", "two")) as server, Client(server) as client:
        body = client.call("POST", "/api/apikey/login").body
        assert [(info["name"], info["api_url"], info["git_metadata"]) for info in body["org_info"]] == [
            ("one", server.url, None),
            ("two", server.url, None),
        ]
        assert (client.call("GET", "/version").body, client.call("GET", "/ping").body) == ({}, {})


def test_only_the_accepted_keys_are_let_in() -> None:
    """With a list of keys, any other is answered with 401, and its rows are not stored."""
    with BraintrustServer(api_keys={"right"}) as server, Client(server, key="right") as right, Client(server) as wrong:
        server.add_project("p", "P")
        assert [client.log(row()).status for client in (right, wrong)] == [200, 401]
        assert wrong.call("POST", "/api/apikey/login").status == 401


# What it refuses


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        [],
        {"rows": []},
        {"rows": {}, "api_version": 2},
        {"rows": [1], "api_version": 2},
        {"rows": [{"project_id": "P"}], "api_version": 2},
        {"rows": [{"id": "a"}], "api_version": 2},
        {"rows": [row("b"), row(project_id="unknown")], "api_version": 2},
    ],
)
def test_a_malformed_request_is_refused_whole(server: BraintrustServer, client: Client, body: object) -> None:
    """A malformed body, or one bad row in it, is answered with 400 and a reason, and nothing is stored."""
    reply = client.call("POST", "/logs3", body)
    assert (reply.status, server.rows()) == (400, [])
    assert reply.body["error"]


def test_a_body_that_is_too_large_is_refused(server: BraintrustServer, client: Client) -> None:
    """A body above the limit, which can be changed at any time, is answered with 413."""
    server.max_body_bytes = 300
    assert [client.log(row()).status, client.log(row("b", input="x" * 300)).status] == [200, 413]
    assert server.rows() == [row()]


def test_an_unknown_endpoint_is_not_found(client: Client) -> None:
    """An unsupported endpoint is answered with 404."""
    assert client.call("GET", "/v2/project").status == 404


# What can be asked


def stored(id: str, *, age_minutes: float, **fields: Any) -> dict[str, Any]:
    created = datetime.now(timezone.utc) - timedelta(minutes=age_minutes)
    return row(id, created=created.isoformat().replace("+00:00", "Z"), **fields)


OPEN_SPANS = [
    "SELECT id FROM project_logs('P', shape => 'spans') WHERE created >= now() - interval 1 day"
    " AND created < now() - interval 1 hour AND metrics.end IS NULL LIMIT 1000",
    "select: id | from: project_logs('P') spans | filter: created >= now() - interval 1 day and"
    " created < now() - interval 1 hour and metrics.end is null | sort: _pagination_key ASC | limit: 1000",
]


@pytest.mark.parametrize("query", OPEN_SPANS)
def test_open_spans_are_found_by_age(server: BraintrustServer, client: Client, query: str) -> None:
    """The query for spans open since more than an hour finds those, and no others, in either spelling."""
    other = server.add_project("other")
    client.log(
        stored("open", age_minutes=90, metrics={"start": 1.0}),
        stored("closed", age_minutes=90, metrics={"start": 1.0, "end": 2.0}),
        stored("young", age_minutes=30),
        stored("old", age_minutes=60 * 25),
        stored("elsewhere", age_minutes=90, project_id=other),
        row("new"),
    )
    assert client.query(query).body["data"] == [{"id": "open"}]


@pytest.mark.parametrize(
    "page",
    [
        "SELECT * FROM project_logs('P') WHERE {} LIMIT 2 OFFSET '{}'",
        "select: * | from: project_logs('P') spans | filter: {} | limit: 2 | cursor: '{}'",
    ],
)
def test_long_answers_come_in_pages(client: Client, page: str) -> None:
    """An answer longer than the limit comes in pages, each with the cursor of the next."""
    client.log(*(row(str(number)) for number in range(5)))
    found, cursor = [], "0"
    while cursor is not None:
        body = client.query(page.format("created > now() - interval '1 hour'", cursor)).body
        found.append([each["id"] for each in body["data"]])
        cursor = body["cursor"]
    assert found == [["0", "1"], ["2", "3"], ["4"]]


@pytest.mark.parametrize(
    ("condition", "ids"),
    [
        ("id = 'b'", ["b"]),
        ("id IN ('b', 'c')", ["b", "c"]),
        ("root_span_id = 'ra' AND is_root", ["a"]),
        ("root_span_id = 'rb' AND is_root = true", []),
        ("created <= now() AND metrics.start >= 1.5", ["c"]),
        ("created != '2020-01-01T00:00:00Z' AND metrics.end IS NOT NULL", ["b"]),
        ("created <= now() AND span_attributes.name = 'it''s'", ["a"]),
    ],
)
def test_rows_are_found_by_their_fields(client: Client, condition: str, ids: list[str]) -> None:
    """Comparisons, lists, nulls and bare fields select rows."""
    client.log(
        row("a", metrics={"start": 1.0}, span_attributes={"name": "it's"}),
        row("b", metrics={"start": 1.0, "end": 2.0}, span_parents=["sa"]),
        row("c", metrics={"start": 2.0}),
    )
    reply = client.query(f"SELECT id FROM project_logs('P') WHERE {condition}")
    assert (reply.status, [each["id"] for each in reply.body["data"]]) == (200, ids)


@pytest.mark.parametrize(
    "query",
    [
        "SELECT * FROM project_logs('P') WHERE metrics.end IS NULL",
        "SELECT * FROM project_logs('P') WHERE id = 'a' OR metrics.end IS NULL",
        "SELECT * FROM project_logs('P', shape => 'squares') WHERE id = 'a'",
        "SELECT * FROM elsewhere('P') WHERE id = 'a'",
        "SELECT nothing(id) FROM project_logs('P') WHERE id = 'a'",
        "SELECT * FROM project_logs('P') WHERE id IN (SELECT id FROM project_logs('P') WHERE id = 'a')",
        "SELECT * FROM project_logs('P') WHERE created > now() - interval 1 fortnight",
        "SELECT * FROM project_logs('P') WHERE id = 'a' OFFSET 'not a cursor'",
        "select: * | from: project_logs('P') spans | filter: id = 'a' | unknown: 1",
        "DELETE FROM project_logs('P')",
        "SELECT * FROM project_logs('P') WHERE id =",
        "SELECT *",
    ],
)
def test_a_query_that_is_not_understood_is_refused(client: Client, query: str) -> None:
    """A query that is not understood, or has no indexed filter, is answered with 400 instead of a guess."""
    reply = client.query(query)
    assert reply.status == 400
    assert query in reply.body["error"]


# How it fails


def test_a_status_is_answered_so_often_and_then_no_more(server: BraintrustServer, client: Client) -> None:
    """An injected status is answered the requested number of times, with its Retry-After, and stores nothing."""
    server.fail("/logs3", Fault.status(429, retry_after=7), times=2)
    server.fail("/logs3", Fault.status(500), times=1)
    replies = [client.log(row()) for _ in range(4)]
    assert [reply.status for reply in replies] == [429, 429, 500, 200]
    assert [reply.headers.get("Retry-After") for reply in replies] == ["7", "7", None, None]
    assert len(server.requests_to("/logs3")) == 4


def test_a_fault_for_all_endpoints_lasts_until_healed(server: BraintrustServer, client: Client) -> None:
    """A fault without a count lasts until it is healed, on every endpoint if requested."""
    server.fail("*", Fault.status(503))
    assert [client.log(row()).status, client.call("GET", "/ping").status, client.log(row()).status] == [503] * 3
    server.heal()
    assert client.log(row()).status == 200


def test_faults_are_counted_exactly_under_concurrency(server: BraintrustServer) -> None:
    """Of many concurrent requests exactly the requested number fails."""
    server.fail("/logs3", Fault.status(500), times=30)

    def send(name: int) -> list[int]:
        with Client(server) as client:
            return [client.log(row(f"{name}-{number}")).status for number in range(10)]

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        statuses = [status for each in pool.map(send, range(8)) for status in each]
    assert (statuses.count(500), statuses.count(200), len(server.rows())) == (30, 50, 50)


def test_a_slow_request_lands_late(server: BraintrustServer, client: Client) -> None:
    """A slow request is stored after its delay and answered normally."""
    server.fail("/logs3", Fault.slow(0.15), times=1)
    before = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        reply = pool.submit(client.log, row())
        server.wait_for(lambda: server.requests_to("/logs3"), timeout=5)
        assert server.rows() == []
        assert reply.result().status == 200
    assert time.monotonic() - before >= 0.15
    assert server.rows() == [row()]


@pytest.mark.parametrize("release", ["heal", "close", "refuse_connections"])
def test_a_black_hole_swallows_requests_until_it_is_released(release: str) -> None:
    """A black hole never answers; healing, closing and refusing connections release its requests at once."""
    with BraintrustServer() as server, Client(server) as client, concurrent.futures.ThreadPoolExecutor(1) as pool:
        server.add_project("p", "P")
        server.fail("/logs3", Fault.black_hole())
        reply = pool.submit(client.log, row())
        server.wait_for(lambda: server.requests_to("/logs3"), timeout=5)
        assert not reply.done()
        before = time.monotonic()
        getattr(server, release)()
        with pytest.raises(http.client.RemoteDisconnected):
            reply.result(timeout=5)
        assert time.monotonic() - before < 1
        assert server.rows() == []


def test_a_client_that_gives_up_on_a_black_hole_leaves_nothing_stored(server: BraintrustServer) -> None:
    """A client sees a black hole as a timeout of its own, and its rows are not stored."""
    server.fail("/logs3", Fault.black_hole())
    with Client(server, timeout=0.1) as client, pytest.raises(TimeoutError):
        client.log(row())
    server.heal()
    assert server.rows() == []


def test_a_reset_connection_is_reset(server: BraintrustServer, client: Client) -> None:
    """A reset is seen by the client as a reset, and stores nothing."""
    server.fail("/logs3", Fault.reset(), times=1)
    with pytest.raises(ConnectionResetError) as caught:
        client.log(row())
    assert not isinstance(caught.value, http.client.RemoteDisconnected)
    assert server.rows() == []


def test_rows_can_be_stored_without_an_answer(server: BraintrustServer, client: Client) -> None:
    """Rows that are ingested before the connection drops are stored, although the client saw a failure."""
    server.fail("/logs3", Fault.ingest_then_drop(), times=1)
    with pytest.raises(http.client.RemoteDisconnected):
        client.log(row())
    assert server.rows() == [row()]


def test_requests_are_refused_by_their_rows(server: BraintrustServer, client: Client) -> None:
    """A request is refused as a whole if any of its rows matches the predicate."""
    server.fail("/logs3", Fault.refuse_rows(lambda row: row["id"] == "bad", status=422))
    assert [client.log(row("a"), row("bad")).status, client.log(row("b")).status] == [422, 200]
    assert server.rows() == [row("b")]


def test_a_fault_of_an_endpoint_that_does_not_exist_is_an_error(server: BraintrustServer) -> None:
    """A fault for an unknown endpoint raises an error that lists the endpoints."""
    with pytest.raises(ValueError, match="/logs3"):
        server.fail("/log3", Fault.status(500))


def test_connections_are_refused_until_they_are_accepted_again(server: BraintrustServer, client: Client) -> None:
    """While connections are refused, open ones end too; afterwards the server is there on the same port."""
    url = server.url
    assert client.log(row()).status == 200
    server.refuse_connections()
    with pytest.raises(ConnectionError):
        client.log(row())
    with pytest.raises(ConnectionRefusedError):
        client.log(row())
    server.accept_connections()
    assert (server.url, client.log(row("b")).status) == (url, 200)


def test_latency_is_added_to_every_request(server: BraintrustServer, client: Client) -> None:
    """Latency, which can be changed at any time, is the least that a request takes."""
    client.log(row())
    server.latency = 0.1
    before = time.monotonic()
    client.log(row())
    assert 0.1 <= time.monotonic() - before < 1.0


# What it tells


def test_requests_are_recorded_as_they_came(server: BraintrustServer, client: Client) -> None:
    """A request is recorded with its time, key, body and rows."""
    before = time.time()
    client.log(merge())
    (request,) = server.requests
    body = json.dumps({"rows": [merge()], "api_version": 2}).encode()
    assert request == RecordedRequest("POST", "/logs3", request.at, "Bearer key", body, [merge()])
    assert before <= request.at <= time.time()


def test_waiting_ends_when_the_rows_arrive(server: BraintrustServer, client: Client) -> None:
    """Waiting for a condition ends as soon as rows arrive that make it true."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(server.wait_for, lambda: len(server.rows()) == 2, 10)
        client.log(row("a"))
        client.log(row("b"))
        assert waiting.result(timeout=5) is True


def test_waiting_in_vain_says_what_has_arrived(server: BraintrustServer, client: Client) -> None:
    """A wait that times out raises a TimeoutError that lists what arrived."""
    client.log(row("a"), row("b", metrics={"end": 1.0}))
    with pytest.raises(TimeoutError, match=r"2 spans, 1 of them open.*1 x POST /logs3"):
        server.wait_for(lambda: len(server.rows()) == 3, timeout=0.01)


def test_closing_leaves_no_thread_and_no_socket() -> None:
    """After closing, with connections open and requests waiting, no thread and no descriptor is left."""
    threads, descriptors = set(threading.enumerate()), set(os.listdir("/proc/self/fd"))
    server = BraintrustServer()
    server.fail("/ping", Fault.black_hole())
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", int(server.address.rpartition(":")[2]))
        sockets = [stack.enter_context(socket.create_connection(address)) for _ in range(3)]
        sockets[0].sendall(b"GET /ping HTTP/1.1\r\n\r\n")
        sockets[1].sendall(b"GET /version HTTP/1.1\r\n\r\n")
        assert sockets[1].recv(12) == b"HTTP/1.1 200"
        server.wait_for(lambda: len(server.requests) == 2, timeout=5)
        server.close()
        server.close()
    assert (set(threading.enumerate()) - threads, set(os.listdir("/proc/self/fd")) - descriptors) == (set(), set())


# With the real SDK


def run_sdk(server: BraintrustServer, program: str, tmp_path: Path) -> subprocess.Popen[bytes]:
    variables = {"BRAINTRUST_API_KEY": "key", "BRAINTRUST_APP_URL": server.url, "BRAINTRUST_API_URL": server.url}
    return subprocess.Popen([sys.executable, "-c", program], env={**os.environ, **variables}, cwd=tmp_path)


def test_spans_of_the_sdk_arrive_merged_and_closed(server: BraintrustServer, tmp_path: Path) -> None:
    """Spans that the real SDK logs arrive merged and closed."""
    program = """
import braintrust
logger = braintrust.init_logger(project="sdk")
with logger.start_span("root", input="question") as root:
    braintrust.flush()
    with root.start_span("child") as child:
        child.log(output={"a": 1}, metadata={"b": 2})
    root.log(output="answer")
braintrust.flush()
"""
    with run_sdk(server, program, tmp_path) as process:
        assert process.wait(30) == 0
    spans = {span["span_attributes"]["name"]: span for span in server.span_rows()}
    assert (set(spans), server.open_spans()) == ({"root", "child"}, [])
    assert (spans["root"]["input"], spans["root"]["output"]) == ("question", "answer")
    assert (spans["child"]["output"], spans["child"]["metadata"]) == ({"a": 1}, {"b": 2})
    assert spans["child"]["span_parents"] == [spans["root"]["span_id"]]
    assert len(server.requests_to("/logs3")) >= 2


def test_a_span_of_a_killed_sdk_stays_open(server: BraintrustServer, tmp_path: Path) -> None:
    """A span whose process is killed stays open, as it does in Braintrust."""
    program = """
import braintrust, time
logger = braintrust.init_logger(project="sdk")
with logger.start_span("root"):
    braintrust.flush()
    time.sleep(60)
"""
    with run_sdk(server, program, tmp_path) as process:
        server.wait_for(server.span_rows, timeout=30)
        process.send_signal(signal.SIGKILL)
    assert [span["span_attributes"]["name"] for span in server.open_spans()] == ["root"]
