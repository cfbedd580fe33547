"""Many concurrent requests in the threads and on the event loop of the framework's own servers."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from planted_keys import PLANTED_KEY
from support import PROJECT_ID, traces_in

from trace_guard.testing import BraintrustServer, CloudRunSandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")

REQUESTS, CLIENTS = 160, 32
CODE = Path(__file__).parents[1] / "functions" / "gcf_at_once"


@pytest.mark.parametrize("target", ["plain", "on_loop"])
def test_each_request_has_its_own_trace(target: str) -> None:
    """Each trace has only the spans of its own request, and all traces are closed and delivered when the instance
    has no CPU any more, in fewer deliveries than requests."""
    with BraintrustServer() as server:
        server.add_project("project", PROJECT_ID)
        env = {
            "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
            "TRACE_GUARD_PROJECT_ID": PROJECT_ID, "THREADS": str(CLIENTS),
        }
        with CloudRunSandbox(f"functions-framework --target {target} --host 127.0.0.1", code=CODE, env=env) as sandbox:

            def ask(number: int) -> int:
                response = sandbox.request(
                    "POST", "/", headers={"content-type": "application/json"},
                    body=json.dumps({"number": number}).encode(),
                )
                assert response.status == 200, sandbox.log
                return int(response.json()["number"])

            with ThreadPoolExecutor(CLIENTS) as clients:
                assert list(clients.map(ask, range(REQUESTS))) == list(range(REQUESTS))
            assert sandbox.frozen
            assert "trace-guard: could not" not in sandbox.log
            traces = traces_in(server.span_rows())
            deliveries = [one for one in server.requests if one.path.endswith("/logs3")]
    assert server.open_spans() == []
    assert len(traces) == REQUESTS
    for trace in traces:
        spans = {row["span_attributes"]["name"]: row for row in trace}
        root = spans.pop("POST service")
        number = root["output"]["number"]
        assert root["input"]["body"] == {"number": number}
        assert set(spans) == {f"first {number}", f"second {number}"}
        assert spans[f"second {number}"]["span_parents"] == [spans[f"first {number}"]["span_id"]]
        assert spans[f"first {number}"]["span_parents"] == [root["span_id"]]
    assert len(deliveries) < REQUESTS
