"""The page over Braintrust, and the repair of traces from its health page."""

from __future__ import annotations

import json
import time

import httpx
import pytest
from page_rows import OpenPage, ServePage, send, span, three_traces
from playwright.sync_api import expect

from trace_guard.backends.local import LocalStore
from trace_guard.testing import BraintrustServer


def test_a_stuck_trace_is_closed_from_the_page(serve: ServePage, visit: OpenPage, store: LocalStore) -> None:
    """The health page lists the traces that are stuck, and closes one at a click; it then ends at its last activity."""
    three_traces(store)
    send(store, span("stuck", root="e" * 32, start=9000), span("call", root="e" * 32, parent="e" * 32, start=8000))
    page = visit(f"{serve()}/health")
    row = page.locator("tbody tr", has=page.get_by_role("button"))
    expect(row).to_contain_text("2 h")
    row.get_by_role("button").click()
    expect(page.get_by_role("status")).to_contain_text("is closed")
    expect(page.locator("main")).to_contain_text("No trace is open and quiet")
    root, child = store.rows("e" * 32)
    assert root["metadata"]["trace_guard"]["closed_by"] == "reaper"
    assert root["metrics"]["end"] == pytest.approx(child["metrics"]["start"])
    assert [row["span_attributes"]["name"] for row in store.rows("d" * 32) if "end" not in row["metrics"]] == [
        "running", "think",
    ]


def test_a_trace_that_goes_on_is_left_alone(serve: ServePage, store: LocalStore) -> None:
    """A trace in which something has happened since the page was loaded is not closed."""
    send(store, span("stuck", root="e" * 32, start=9000))
    address = serve()
    page = httpx.get(f"{address}/health").text
    token = page.split('name="token" value="')[1].split('"')[0]
    send(store, span("call", root="e" * 32, parent="e" * 32, start=1))
    answer = httpx.post(
        f"{address}/health/close", data={"trace": "e" * 32, "token": token}, headers={"Origin": address},
    )
    assert answer.status_code == 200
    assert "was left alone" in answer.text
    assert all("end" not in row["metrics"] for row in store.rows("e" * 32))


def test_a_project_in_braintrust(
    serve: ServePage, visit: OpenPage, server: BraintrustServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--project` shows the traces of a project in Braintrust: list, filters, waterfall and payloads."""
    project = server.add_project("support-bot")
    headers = {"Authorization": "Bearer key"}
    now = time.time()
    rows = [
        span("ask", root="a" * 32, start=60, end=50, input="zebra"),
        span("search", root="a" * 32, parent="a" * 32, start=59, end=55, output="crossing"),
        span("fail", root="b" * 32, start=40, end=30, error="ValueError: no"),
        span("running", root="c" * 32, start=20),
    ]
    created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - 60))
    body = {"rows": [{**row, "project_id": project, "created": created} for row in rows], "api_version": 2}
    httpx.post(f"{server.url}/logs3", content=json.dumps(body), headers=headers).raise_for_status()
    for name, value in (("API_KEY", "key"), ("APP_URL", server.url), ("API_URL", server.url)):
        monkeypatch.setenv(f"BRAINTRUST_{name}", value)
    address = serve("--project", "support-bot")
    page = visit(address)
    names = page.locator("table.traces td.name a")
    assert names.all_inner_texts() == ["running", "fail", "ask"]
    page.goto(f"{address}/?state=error")
    assert names.all_inner_texts() == ["fail"]
    page.goto(f"{address}/?q=ZEBRA")
    assert names.all_inner_texts() == ["ask"]
    names.first.click()
    page.locator("table.waterfall").get_by_text("search").click()
    expect(page.locator("#panel")).to_contain_text("crossing")


def test_stuck_traces_of_a_project_are_searched_for_on_request(
    serve: ServePage, server: BraintrustServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over Braintrust the health page makes no query until one asks for it, as the service limits their number."""
    server.add_project("support-bot")
    for name, value in (("API_KEY", "key"), ("APP_URL", server.url), ("API_URL", server.url)):
        monkeypatch.setenv(f"BRAINTRUST_{name}", value)
    address = serve("--project", "support-bot")
    server.clear()
    assert "/health?search=1" in httpx.get(f"{address}/health").text
    assert not [request for request in server.requests if request.path == "/btql"]
    assert "No trace is open and quiet" in httpx.get(f"{address}/health?search=1", timeout=30).text
    assert [request for request in server.requests if request.path == "/btql"]


def test_a_project_needs_a_key(serve: ServePage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key, `--project` says what to set."""
    monkeypatch.delenv("BRAINTRUST_API_KEY", raising=False)
    with pytest.raises(AssertionError, match="BRAINTRUST_API_KEY"):
        serve("--project", "support-bot")
