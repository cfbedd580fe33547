"""What the simulated Braintrust answers to queries: the language, pages, and the service's limits."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from trace_guard.testing import BraintrustServer


def post(server: BraintrustServer, path: str, body: object, host: str | None = None) -> tuple[int, dict[str, str], Any]:
    """The status, headers and JSON of an answer; redirects are followed, as the service's clients do."""
    headers = {"Authorization": "Bearer key", **({"Host": host} if host else {})}
    request = urllib.request.Request(f"{server.url}{path}", json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read()
            return answer.status, dict(answer.headers), json.loads(text)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), json.loads(error.read())


def query(server: BraintrustServer, text: object, **more: Any) -> list[dict[str, Any]]:
    status, _, body = post(server, "/btql", {"query": text, **more})
    assert status == 200, body
    return list(body["data"])


def span(number: int, **fields: Any) -> dict[str, Any]:
    ids = {"id": f"i{number}", "span_id": f"s{number}", "root_span_id": f"r{number // 2}"}
    parents = [f"s{number - 1}"] if number % 2 else None
    return {**ids, "span_parents": parents, "project_id": "P", "log_id": "g",
            "created": f"2026-01-0{number + 1}T00:00:00.5Z", **fields}


SPANS = [
    span(0, metrics={"start": 1.0}, span_attributes={"name": "Agent"}, tags=["red"], metadata={"user": {"a b": 1}}),
    span(1, metrics={"start": 1.0, "end": 3.0, "tokens": 5}, span_attributes={"name": "llm"}, error="it broke badly"),
    span(2, metrics={"start": 1.0, "end": 2.0}, span_attributes={"name": "agent"}, scores={"right": 1}),
    span(3, metrics={"start": 1.0, "end": 9.0, "tokens": 7}, span_attributes={"name": "llm"}, scores={"right": 0}),
]


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer() as server:
        server.add_project("named", "P")
        assert post(server, "/logs3", {"rows": SPANS, "api_version": 2})[0] == 200
        yield server


@pytest.mark.parametrize(
    ("condition", "numbers"),
    [
        ("id = 'i0' OR id = 'i3'", "03"),
        ("created BETWEEN '2026-01-02' AND '2026-01-03T12:00:00Z'", "12"),
        ("created > '2026-01-02T00:00:00.6+00:00' AND NOT metrics.end > 5", "2"),
        ("created < now() AND span_attributes.name LIKE 'ag%'", "2"),
        ("created < now() AND span_attributes.name ILIKE 'AG%'", "02"),
        ("created < now() AND error MATCH 'broke it'", "1"),
        ("created < now() AND tags INCLUDES 'red'", "0"),
        ("created < now() AND tags[0] = 'red'", "0"),
        ("created < now() AND metadata.user.\"a b\" = 1", "0"),
        ("created < now() AND span_attributes.name IN ('llm') AND metrics.end - metrics.start >= 8", "3"),
        ("created < current_timestamp AND span_attributes.name != \"llm\" AND is_root", "02"),
        ("root_span_id = 'r1' AND metadata.trace_guard.durable IS NULL", "23"),
        ("_pagination_key > 'p00000000000000000002'", "23"),
    ],
)
def test_filters_select_rows(server: BraintrustServer, condition: str, numbers: str) -> None:
    """Filters of every kind select the same rows in SQL and in BTQL."""
    sql = f"SELECT span_id FROM project_logs('P') WHERE {condition}"
    btql = f"select: span_id | from: project_logs('P') spans | filter: {condition}"
    for text in (sql, btql):
        assert [row["span_id"] for row in query(server, text)] == [f"s{number}" for number in numbers]


def test_a_source_is_named_or_numbered(server: BraintrustServer) -> None:
    """A project is found by its name as well as by its id, and several at once."""
    for names in ("'named'", "'P'", "'P', 'other'"):
        assert len(query(server, f"SELECT * FROM project_logs({names}) WHERE created < now()")) == 4


def test_shapes_return_traces(server: BraintrustServer) -> None:
    """The shape `traces` returns every span of a trace with a match, and `summary` one row with its numbers."""
    text = "SELECT * FROM project_logs('P', shape => '{}') WHERE created < now() AND metrics.tokens = 7"
    assert [row["span_id"] for row in query(server, text.format("traces"))] == ["s2", "s3"]
    (summary,) = query(server, text.format("summary"))
    assert (summary["span_id"], summary["metrics"], summary["scores"]) == (
        "s2", {"tokens": 7, "start": 1.0, "end": 2.0}, {"right": 0.5}
    )
    page = post(server, "/btql", {"query": "SELECT span_id FROM project_logs('P', shape => 'traces') "
                                           "WHERE created < now() LIMIT 1"})[2]
    assert [row["span_id"] for row in page["data"]] == ["s0", "s1"]
    rest = query(server, "SELECT span_id FROM project_logs('P', shape => 'traces') WHERE created < now()",
                 cursor=page["cursor"])
    assert [row["span_id"] for row in rest] == ["s2", "s3"]


def test_aggregates_are_computed(server: BraintrustServer) -> None:
    """Functions, groups, conditions on groups and orders are computed by a real engine."""
    found = query(
        server, "SELECT span_attributes.name AS name, count(1) AS n, max(metrics.end) AS last FROM project_logs('P') "
        "WHERE created < now() GROUP BY span_attributes.name HAVING count(1) > 0 ORDER BY n DESC, name LIMIT 2",
    )
    assert found == [{"name": "llm", "n": 2, "last": 9.0}, {"name": "Agent", "n": 1, "last": None}]
    found = query(server, "dimensions: root_span_id as trace | measures: count(1) as n | from: project_logs('P') | "
                          "filter: created < now() | sort: trace desc")
    assert found == [{"trace": "r1", "n": 2}, {"trace": "r0", "n": 2}]


@pytest.mark.parametrize("order", ["_pagination_key", "created", "metrics.start, id"])
@pytest.mark.parametrize("direction", ["ASC", "DESC"])
def test_pages_hold_every_row_once(server: BraintrustServer, order: str, direction: str) -> None:
    """In any order the pages together hold every row once, also when rows leave the result between two pages."""
    text = f"SELECT id FROM project_logs('P') WHERE created < now() ORDER BY {order} {direction} LIMIT 1"
    found, cursor = [], None
    for _ in range(4):
        body = post(server, "/btql", {"query": text, "cursor": cursor})[2]
        found += [row["id"] for row in body["data"]]
        cursor = body["cursor"]
    assert sorted(found) == ["i0", "i1", "i2", "i3"]
    assert cursor is None


def test_a_page_follows_the_last_one_when_rows_leave_the_result(server: BraintrustServer) -> None:
    """A row that no longer matches does not make the next page skip another."""
    text = "SELECT id FROM project_logs('P') WHERE created < now() AND error IS NULL LIMIT 2"
    first = post(server, "/btql", {"query": text})[2]
    merge = {**SPANS[0], "_is_merge": True, "error": "now"}
    post(server, "/logs3", {"rows": [merge], "api_version": 2})
    assert [row["id"] for row in query(server, text, cursor=first["cursor"])] == ["i3"]


def test_the_tree_of_the_sdk_is_answered(server: BraintrustServer) -> None:
    """A query that the SDK has parsed itself is answered, with its filter, limit and cursor."""
    def ident(*names: str) -> dict[str, Any]:
        return {"op": "ident", "name": list(names)}

    tree = {
        "select": [{"op": "star"}], "limit": 1, "cursor": None,
        "from": {"op": "function", "name": ident("project_logs"), "args": [{"op": "literal", "value": "P"}]},
        "filter": {"op": "and", "children": [
            {"op": "in", "left": ident("root_span_id"), "right": {"op": "literal", "value": ["r0", "r1"]}},
            {"op": "or", "children": [
                {"op": "isnull", "expr": ident("span_attributes", "purpose")},
                {"op": "ne", "left": ident("span_attributes", "purpose"), "right": {"op": "literal", "value": "x"}},
            ]},
            {"op": "ge", "left": {"op": "sub", "left": ident("metrics", "end"), "right": ident("metrics", "start")},
             "right": {"op": "literal", "value": 1.5}},
        ]},
    }
    body = post(server, "/btql", {"query": tree, "use_columnstore": False})[2]
    assert [row["id"] for row in body["data"]] == ["i1"]
    assert [row["id"] for row in query(server, {**tree, "cursor": body["cursor"]})] == ["i3"]


def test_lines_carry_the_cursor_in_a_header(server: BraintrustServer) -> None:
    """The format `jsonl` has a row on each line, and the cursor in a header."""
    asked = {"query": "SELECT id FROM project_logs('P') WHERE created < now() LIMIT 3", "fmt": "jsonl"}
    request = urllib.request.Request(f"{server.url}/btql", json.dumps(asked).encode(), {"Authorization": "Bearer k"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        lines, cursor = answer.read().decode().splitlines(), answer.headers["x-bt-cursor"]
    assert [json.loads(line)["id"] for line in lines] == ["i0", "i1", "i2"]
    assert [row["id"] for row in query(server, asked["query"], cursor=cursor)] == ["i3"]


def test_the_limits_of_the_service_are_kept() -> None:
    """Too many queries get 429 with Retry-After, too large ones 504, large answers a redirect, and pages 1000 rows."""
    with BraintrustServer(queries_per_minute=4, max_query_rows=1500, max_answer_bytes=2000) as server:
        server.add_project("p", "P")
        rows = [{**span(0), "id": f"i{number}", "created": f"2026-01-{1 + number // 1200:02}T00:00:00Z"}
                for number in range(1800)]
        assert post(server, "/logs3", {"rows": rows, "api_version": 2})[0] == 200
        narrow = "SELECT id FROM project_logs('P') WHERE created < '2026-01-02' AND id IS NOT NULL LIMIT 5000"
        status, _, page = post(server, "/btql", {"query": narrow})
        assert (status, len(page["data"])) == (200, 1000)
        assert len(query(server, narrow, cursor=page["cursor"])) == 200
        assert "/overflow/" in {request.path.rpartition("/")[0] + "/" for request in server.requests}
        assert post(server, "/btql", {"query": narrow.replace("-02'", "-03'")})[0] == 504
        assert post(server, "/btql", {"query": narrow})[0] == 200
        status, headers, _ = post(server, "/btql", {"query": narrow})
        assert (status, 1 <= int(headers["Retry-After"]) <= 60) == (429, True)


def test_a_page_of_another_host_is_refused(server: BraintrustServer) -> None:
    """A request with a foreign Host header is refused, so that no web page reaches the server by a name of its own."""
    for host, status in (("evil.example", 403), ("localhost:1", 200), ("127.0.0.1", 200), ("127.0.0.1.org", 403)):
        text = "SELECT id FROM project_logs('P') WHERE id = 'i0'"
        assert post(server, "/btql", {"query": text}, host)[0] == status
