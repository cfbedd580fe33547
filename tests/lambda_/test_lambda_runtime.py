"""A guarded function under AWS's own runtime client, frozen after each answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from planted_keys import PLANTED_KEY
from support import PROJECT_ID, normal, until, without_place

from trace_guard.backends.local import LocalStore
from trace_guard.testing import BraintrustServer, Fault, InvokeResult, LambdaSandbox

CODE = Path(__file__).parents[1] / "functions" / "lambda_cases"
ROUND_TRIP = 0.05


@pytest.fixture
def server() -> Iterator[BraintrustServer]:
    with BraintrustServer(latency=ROUND_TRIP) as server:
        server.add_project("project", PROJECT_ID)
        yield server


def sandbox(server: BraintrustServer | None, *, handler: str = "app.handler", **more: Any) -> LambdaSandbox:
    timeout = more.pop("timeout", 3.0)
    environment = {} if server is None else {
        "BRAINTRUST_API_KEY": PLANTED_KEY, "BRAINTRUST_API_URL": server.url, "BRAINTRUST_APP_URL": server.url,
    }
    return LambdaSandbox(handler, code=CODE, env={**environment, **more}, timeout=timeout)


def root(server: BraintrustServer) -> dict[str, Any]:
    """The root span of the latest trace."""
    roots = [row for row in server.span_rows() if not row["span_parents"]]
    return max(roots, key=lambda row: row["metrics"]["start"])


def about(row: dict[str, Any]) -> dict[str, Any]:
    return dict(row["metadata"]["trace_guard"])


def test_a_warm_invocation_costs_one_request(server: BraintrustServer) -> None:
    """A warm invocation makes one request with all its rows, on request before the response."""
    with sandbox(server, TRACE_GUARD_FLUSH="before-response") as function:
        function.invoke({"do": "answer"})
        for _ in range(5):
            before = len(server.requests)
            result = function.invoke({"do": "answer"})
            assert result.payload == {"answer": "YES"}
            assert [request.path for request in server.requests[before:]] == ["/logs3"]
            assert server.requests[-1].at < result.returned_at
            assert server.open_spans() == []
            assert result.seconds < 3 * ROUND_TRIP
    assert len(server.span_rows()) == 12


def test_with_a_project_id_nothing_is_looked_up_on_the_way(server: BraintrustServer) -> None:
    """With TRACE_GUARD_PROJECT_ID set, no invocation waits for a login, project or version, not even a cold one."""
    server.fail("/api/apikey/login", Fault.black_hole())
    server.fail("/v1/project", Fault.black_hole())
    server.fail("/version", Fault.black_hole())
    with sandbox(server, TRACE_GUARD_PROJECT_ID=PROJECT_ID) as function:
        results = [function.invoke({"do": "answer"}) for _ in range(3)]
    assert [result.status for result in results] == ["ok"] * 3
    assert max(result.seconds for result in results) < 4 * ROUND_TRIP
    assert len(server.requests_to("/logs3")) == 3
    assert server.requests_to("/version") == server.requests_to("/v1/project") == []
    assert {row["project_id"] for row in server.span_rows()} == {PROJECT_ID}


def test_the_root_has_the_functions_metadata(server: BraintrustServer) -> None:
    """The root has the function, its place and the cold start in OpenTelemetry's terms."""
    with sandbox(server) as function:
        first = function.invoke({"do": "answer", "word": "no", "password": "x"})
        cold = root(server)
        function.invoke({"do": "answer"})
        warm = root(server)
    metadata = {key: value for key, value in cold["metadata"].items() if key != "trace_guard"}
    instance = metadata.pop("faas.instance")
    arn = metadata.pop("cloud.resource_id")
    assert instance
    assert arn.startswith("arn:aws:lambda:")
    assert arn.endswith(":function:function")
    assert metadata == {
        "cloud.provider": "aws", "cloud.platform": "aws_lambda", "cloud.region": arn.split(":")[3],
        "cloud.account.id": arn.split(":")[4], "faas.name": "function", "faas.version": "$LATEST",
        "faas.invocation_id": first.request_id, "faas.coldstart": True, "faas.trigger": "other",
        "faas.max_memory": 512 * 1024 * 1024,
    }
    assert warm["metadata"]["faas.coldstart"] is False
    assert cold["input"] == {"do": "answer", "word": "no", "password": "[redacted]"}
    assert cold["output"] == {"answer": "NO"}
    assert cold["span_attributes"]["name"] == "function"


def test_nobody_waited_for_provisioned_concurrency(server: BraintrustServer) -> None:
    """The first invocation of an environment that was initialised in advance is no cold start."""
    with sandbox(server, AWS_LAMBDA_INITIALIZATION_TYPE="provisioned-concurrency") as function:
        function.invoke({"do": "answer"})
    assert root(server)["metadata"]["faas.coldstart"] is False


def test_an_async_handler_keeps_its_loop(server: BraintrustServer) -> None:
    """Under Lambda's runtime, all invocations of an async handler run on one event loop."""
    with sandbox(server, handler="app.async_handler") as function:
        results = [function.invoke({"n": n}).payload for n in range(3)]
    assert results == [{"one_loop": True, "calls": n} for n in (1, 2, 3)]
    found = root(server)
    assert (found["span_attributes"]["name"], found["tags"], found["metadata"]["tenant"]) == (
        "async", ["nightly"], "acme"
    )
    assert "output" not in found


def test_an_exception_reaches_the_caller(server: BraintrustServer) -> None:
    """An exception reaches the caller as without the guard, and is recorded on the closed root with its traceback."""
    with sandbox(server) as function:
        result = function.invoke({"do": "fail"})
    assert (result.status, result.payload["errorType"], result.payload["errorMessage"]) == (
        "error", "ValueError", "no such order"
    )
    found = root(server)
    assert about(found) == {"outcome": "error"}
    assert found["error"].startswith("Traceback (most recent call last):")
    assert "in fail" in found["error"]
    assert found["error"].rstrip().endswith("ValueError: no such order")


def test_open_spans_are_closed(server: BraintrustServer) -> None:
    """Spans that the handler leaves open are closed before it answers and marked, and are no error."""
    with sandbox(server) as function:
        function.invoke({"do": "forget"})
    spans = {row["span_attributes"]["name"]: row for row in server.span_rows()}
    forced = {"outcome": "ok", "closed_by": "guard", "reason": "left_open"}
    assert {name: without_place(row) for name, row in spans.items()} == {
        "function": {"outcome": "ok"}, "forgotten": forced, "within": forced,
    }
    assert [row["error"] for row in spans.values() if "error" in row] == []


def test_sys_exit_is_delivered_before_the_process_ends(server: BraintrustServer) -> None:
    """A handler that exits ends the process as without the guard, after its trace is closed and delivered."""
    with sandbox(server) as function:
        result = function.invoke({"do": "leave"})
    assert (result.status, result.exit_status) == ("crashed", 3)
    assert server.open_spans() == []
    assert about(root(server)) == {"outcome": "error"}
    assert root(server)["error"].rstrip().endswith("SystemExit: 3")


def test_a_timeout_is_recorded_before_it_happens(server: BraintrustServer) -> None:
    """Shortly before Lambda's timeout, the spans of a handler are closed and delivered, and the running span is
    named."""
    with sandbox(server, timeout=1.5) as function:
        result = function.invoke({"do": "hang"})
        assert (result.status, server.open_spans()) == ("timed_out", [])
        found = root(server)
        assert function.invoke({"do": "answer"}).status == "ok"
    assert about(found) == {
        "outcome": "timed_out", "closed_by": "watchdog", "reason": "deadline", "running": "slow call",
    }
    assert "still running" in found["error"]
    assert 1.1 < found["metrics"]["end"] - found["metrics"]["start"] < 1.5


@pytest.mark.parametrize("death", ["die", "hang"])
def test_the_next_invocation_closes_traces_of_a_dead_process(server: BraintrustServer, death: str) -> None:
    """After os._exit or SIGKILL, the next invocation closes and delivers the whole trace, with the time of death as
    its end."""
    with sandbox(server, TRACE_GUARD_LINGER="0.01") as function:
        function.invoke({"do": "answer"})
        before = len(server.span_rows())
        died: InvokeResult
        if death == "die":
            died = function.invoke({"do": "die"})
            assert died.exit_status == 7
        else:
            died = function.invoke({"do": "hang"}, kill_when=lambda: len(server.open_spans()) == 2)
            assert len(server.open_spans()) == 2
        assert function.invoke({"do": "answer"}).status == "ok"
        until(lambda: len(server.span_rows()) >= before + 2 + (death == "hang"))
        assert server.open_spans() == []
    left = [row for row in server.span_rows() if about_or_none(row).get("closed_by") == "recovery"]
    assert {row["metadata"]["trace_guard"]["outcome"] for row in left} == {"abandoned"}
    assert "function" in {row["span_attributes"]["name"] for row in left}
    assert max(row["metrics"]["end"] for row in left) <= died.returned_at + 0.01


def about_or_none(row: dict[str, Any]) -> dict[str, Any]:
    return dict((row.get("metadata") or {}).get("trace_guard") or {})


@pytest.mark.parametrize("trouble", ["black hole", "refused", "reset", "500", "slow"])
def test_a_dead_backend_costs_no_result_and_no_row(server: BraintrustServer, trouble: str) -> None:
    """With 3 s left and a backend that fails in each way, the handler's result arrives in time. When the backend is
    back, it gets exactly the rows of a healthy run."""
    faults = {
        "black hole": Fault.black_hole(), "reset": Fault.reset(), "500": Fault.status(500), "slow": Fault.slow(20),
    }
    with BraintrustServer() as healthy:
        healthy.add_project("project", PROJECT_ID)
        with sandbox(healthy, TRACE_GUARD_PROJECT_ID=PROJECT_ID) as function:
            function.invoke({"do": "answer"})
            function.invoke({"do": "forget"})
            function.invoke({"do": "answer"})
        expected = normal_of(healthy)
    with sandbox(server, TRACE_GUARD_PROJECT_ID=PROJECT_ID) as function:
        function.invoke({"do": "answer"})
        if trouble == "refused":
            server.refuse_connections()
        else:
            server.fail("/logs3", faults[trouble])
        result = function.invoke({"do": "forget"})
        assert (result.status, result.payload) == ("ok", {"answer": "yes"})
        assert result.seconds < 2.7
        if trouble == "refused":
            server.accept_connections()
        server.heal()
        assert function.invoke({"do": "answer"}).status == "ok"
        until(lambda: normal_of(server) == expected, what="what a healthy run holds")


def normal_of(server: BraintrustServer) -> Any:
    """The rows on the server, without values that differ from run to run."""
    if server.open_spans():
        return None
    rows = normal(server.span_rows())
    for row in rows:
        for key in ("faas.invocation_id", "faas.instance", "faas.coldstart"):
            (row.get("metadata") or {}).pop(key, None)
        row.pop("root_span_id")
    return sorted(rows, key=repr)


def test_without_a_key_traces_are_kept_locally() -> None:
    """Without a key, traces are kept in a local store, and its path is logged once."""
    with sandbox(None) as function:
        for _ in range(2):
            assert function.invoke({"do": "answer"}).status == "ok"
        store = LocalStore(function.trace_guard_dir / "traces.db")
        traces = store.traces()
        store.close()
        said = [line for line in function.log.splitlines() if "BRAINTRUST_API_KEY" in line]
    assert [(trace.name, trace.outcome, trace.in_progress, trace.spans) for trace in traces] == [
        ("function", "ok", False, 2)
    ] * 2
    assert len(said) == 1
    assert str(function.trace_guard_dir / "traces.db") in said[0]


def test_a_bad_variable_does_not_take_the_function_down(server: BraintrustServer) -> None:
    """With an invalid setting, the function runs unguarded and the log names the setting."""
    with sandbox(server, TRACE_GUARD_FLUSH_TIMEOUT="soon") as function:
        result = function.invoke({"do": "answer"})
        log = function.log
    assert (result.status, result.payload) == ("ok", {"answer": "YES"})
    assert "TRACE_GUARD_FLUSH_TIMEOUT is 'soon', which is not accepted" in log
    assert server.requests == []


@pytest.mark.parametrize("fault", [Fault.black_hole(), Fault.status(503)], ids=["black hole", "503"])
def test_a_dead_backend_does_not_delay_an_exit(server: BraintrustServer, fault: Fault) -> None:
    """A function that exits while the backend is down ends within its delivery budget, as a crash and before its
    timeout."""
    with sandbox(server, timeout=10.0, TRACE_GUARD_FLUSH_TIMEOUT="0.5") as function:
        function.invoke({"do": "answer"})
        server.fail("/logs3", fault)
        result = function.invoke({"do": "leave"})
        assert (result.status, result.exit_status) == ("crashed", 3)
        assert result.seconds < 2.5
        server.heal()
        function.invoke({"do": "answer"})
        until(lambda: not server.open_spans() and len(server.span_rows()) == 5, what="all three traces")
